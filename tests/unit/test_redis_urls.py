"""What a Redis URL says, and what is said of one that can't be used."""

import pytest

from shared.config.settings import BadSettings, load
from shared.redis import BadUrl, read_url, without_password
from shared.redis.urls import RedisTarget, arguments, with_address


def test_the_url_of_one_server_is_kept_unchanged() -> None:
    for url in (
        "redis://h",
        "redis://:pw@h:1/2",
        "rediss://me:p%40w@[::1]:1?ssl_ca_certs=/a.pem",
        "unix:///run/r.sock?db=1",
        "unix://me:pw@/run/r.sock",
    ):
        assert read_url(url) == RedisTarget("server", (url,))


def test_every_node_of_a_cluster_has_the_login_and_the_options() -> None:
    url = "rediss+cluster://me:p%2Fw@a:1,[::1]:2,c?ssl_ca_certs=/my/ca.pem&ssl_check_hostname=false"
    options = "?ssl_ca_certs=%2Fmy%2Fca.pem&ssl_check_hostname=false"
    nodes = tuple(f"rediss://me:p%2Fw@{host}{options}" for host in ("a:1", "[::1]:2", "c:6379"))
    assert read_url(url) == RedisTarget("cluster", nodes)
    found = arguments(nodes[1])
    assert (found["host"], found["port"], found["password"]) == ("::1", 2, "p/w")
    assert found["ssl_ca_certs"] == "/my/ca.pem"
    assert found["ssl_check_hostname"] is False


def test_sentinels_have_a_login_of_their_own_and_the_master_the_url_s() -> None:
    url = "redis+sentinel://me:pw@a,b:1/main/3?sentinel_username=s&sentinel_password=p%40&client_name=x"
    found = read_url(url)
    assert (found.kind, found.master) == ("sentinel", "main")
    assert found.nodes == ("redis://s:p%40@a:26379?client_name=x", "redis://s:p%40@b:1?client_name=x")
    assert arguments(found.nodes[0])["password"] == "p@"
    master = arguments(with_address(found.server, "fe80::1", 7))
    assert {name: master[name] for name in ("host", "port", "username", "password", "db")} == {
        "host": "fe80::1",
        "port": 7,
        "username": "me",
        "password": "pw",
        "db": 3,
    }
    assert read_url("rediss+sentinel://a/main").nodes == ("rediss://a:26379",)
    assert read_url("redis+sentinel://a/main").server.endswith("/0")


def test_an_address_takes_the_place_of_another_and_nothing_else_changes() -> None:
    assert with_address("rediss://me:pw@a:1/0?client_name=x", "b", 2) == "rediss://me:pw@b:2/0?client_name=x"
    assert with_address("redis://a:1", "::1", 2) == "redis://[::1]:2"


def test_the_certificate_must_be_for_the_host_unless_the_url_says_otherwise() -> None:
    assert arguments("rediss://h")["ssl_check_hostname"] is True
    assert not arguments("rediss://h?ssl_check_hostname=false")["ssl_check_hostname"]
    assert "ssl_check_hostname" not in arguments("rediss://h?ssl_cert_reqs=none")
    assert "ssl_check_hostname" not in arguments("redis://h")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h:6379", "it begins with none of redis://, "),
        ("h:6379", "it begins with none of redis://, "),
        ("redis://", "a host is missing in it"),
        ("redis://h:0", "a port in it is no number"),
        ("redis://h:99999", "a port in it is no number"),
        ("redis://me:secret", "a port in it is no number"),
        ("redis://:secret", "a host is missing in it"),
        ("redis://::1:6379", "an IPv6 address stands in brackets"),
        ("redis://h/first", "its database 'first' is no number"),
        ("redis://h?db=x", "its database 'x' is no number"),
        ("redis://a:1,b:2", "only redis+cluster:// and redis+sentinel:// do"),
        ("redis://h?protocol=3", "it has an option 'protocol'; known are "),
        ("redis://h?socket_timeout=1", "it has an option 'socket_timeout'"),
        ("rediss://h?ssl_cert_reqs=maybe", "must be none, optional or required"),
        ("redis+cluster://h/1", "a cluster has none but 0"),
        ("redis+cluster://a:1,,b:2", "a host is missing in it"),
        ("redis+sentinel://h:26379", "it names no master"),
        ("redis+sentinel://h:26379/main/x", "its database 'x' is no number"),
        ("redis+cluster://h?sentinel_password=x", "it has an option 'sentinel_password'"),
        ("unix://", "it names no socket file"),
        ("redis://:pa/secret@h:1/0", "as %2F"),
        ("redis://:secret?@h:1/0", "as %2F"),
        ("redis://:secret#x@h:1/0", "as %2F"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence_of_the_settings(url: str, why: str) -> None:
    with pytest.raises(BadUrl) as refused:
        read_url(url)
    assert why in str(refused.value)
    for name in ("HEADRACE_REDIS_URL", "HEADRACE_QUEUE_URL"):
        with pytest.raises(BadSettings) as told:
            load({name: url})
        assert str(told.value) == f"Settings that can't be used: {name}: {refused.value}"
        assert "secret" not in str(told.value).replace("sentinel_password", "")


def test_a_queue_cannot_be_on_a_cluster() -> None:
    with pytest.raises(BadSettings, match="set HEADRACE_QUEUE_URL"):
        load({"HEADRACE_REDIS_URL": "redis+cluster://h"})
    with pytest.raises(BadSettings, match="set HEADRACE_QUEUE_URL"):
        load({"HEADRACE_QUEUE_URL": "redis+cluster://h"})
    load({"HEADRACE_REDIS_URL": "redis+cluster://h", "HEADRACE_QUEUE_URL": "redis+sentinel://h/main"})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@h:1/2", "redis://***@h:1/2"),
        ("redis://h:1/2", "redis://h:1/2"),
        ("unix://:secret@/run/r.sock?db=1", "unix://***@/run/r.sock?db=1"),
        (
            "redis+sentinel://:secret@a,b/main?sentinel_password=secret&db=1",
            "redis+sentinel://***@a,b/main?sentinel_password=***&db=1",
        ),
        ("http://me:secret@h", "h"),
        ("redis://:sec/secret@h:1", "h:1"),
        ("redis://:secret?secret@h:1", "h:1"),
        ("redis://:secret#secret@h:1", "h:1"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
