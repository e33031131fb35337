"""The variables that Kubernetes makes for services are no settings; a mistyped setting is an error as ever."""

import pytest

from shared.config.settings import BadSettings, load

LINKS = {
    "HEADRACE_SERVICE_HOST": "10.96.12.7",
    "HEADRACE_SERVICE_PORT": "8000",
    "HEADRACE_SERVICE_PORT_HTTP": "8000",
    "HEADRACE_PORT": "tcp://10.96.12.7:8000",
    "HEADRACE_PORT_8000_TCP": "tcp://10.96.12.7:8000",
    "HEADRACE_PORT_8000_TCP_PROTO": "tcp",
    "HEADRACE_PORT_8000_TCP_PORT": "8000",
    "HEADRACE_PORT_8000_TCP_ADDR": "10.96.12.7",
    "HEADRACE_REDIS_SERVICE_HOST": "fd00::7",
    "HEADRACE_REDIS_SERVICE_PORT": "6379",
    "HEADRACE_REDIS_PORT": "tcp://[fd00::7]:6379",
    "HEADRACE_REDIS_PORT_6379_TCP_ADDR": "fd00::7",
    "HEADRACE_METRICS_PORT": "tcp://10.96.12.8:9100",
}
"""What a pod gets where services are named headrace, headrace-redis and headrace-metrics."""


def test_service_links_are_passed_over_and_told() -> None:
    found = load(LINKS)
    assert found.settings == load({}).settings
    assert found.service_links == tuple(sorted(LINKS))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADRACE_PORT", "80x0"),
        ("HEADRACE_PORT", "http://10.0.0.1:8000"),
        ("HEADRACE_PROT", "8000"),
        ("HEADRACE_REDIS_PORT", "6379"),
        ("HEADRACE_SERVICE_HOST", "redis://x"),
        ("HEADRACE_REDIS_HOST", "10.0.0.1"),
        ("HEADRACE_PORT_TCP", "tcp://10.0.0.1:8000"),
    ],
)
def test_a_name_that_only_looks_like_a_service_link_is_an_error(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=name):
        load({name: value})


def test_a_port_is_a_setting_as_ever() -> None:
    assert load({"HEADRACE_PORT": "8123"}).settings.port == 8123
    assert load({"HEADRACE_PORT": "8123"}).service_links == ()


def test_settings_in_the_log_hold_no_secret() -> None:
    told = load(
        {"HEADRACE_REDIS_URL": "redis://u:pass@h:1/0", "HEADRACE_SECRET": "s3cret", "HEADRACE_VIEWERS": "7"}
    )
    assert told.settings.told() == {"redis_url": "redis://***@h:1/0", "viewers": 7}
