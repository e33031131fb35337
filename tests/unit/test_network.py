"""Which way the environment sends a request: as curl and requests read it."""

import pytest

from api.http.connections import Connections
from cli.up.plan import children_env, decided_env
from shared.config.network import Network, Proxy, read_network
from shared.config.settings import BadSettings, Settings, load


def way(env: dict[str, str], scheme: str = "https", host: str = "api.example.com", port: int = 443) -> str:
    proxy = read_network(env).proxy(scheme, host, port)
    return "" if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("env", "scheme", "url"),
    [
        ({}, "https", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "https", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http", ""),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, "https", "http://low:1"),
        ({"HTTP_PROXY": "p:3128"}, "http", "http://p:3128"),
        ({"ALL_PROXY": "https://p:1"}, "http", "https://p:1"),
        ({"all_proxy": "http://all:1", "HTTPS_PROXY": "http://p:1"}, "https", "http://p:1"),
        ({"ALL_PROXY": "http://all:1", "https_proxy": ""}, "https", ""),
        ({"https_proxy": "", "HTTPS_PROXY": "http://p:1"}, "https", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https", ""),
    ],
)
def test_a_proxy_is_named_by_the_scheme_of_what_is_asked(env: dict[str, str], scheme: str, url: str) -> None:
    assert way(env, scheme) == url


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("example.com", "example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        (".example.com", "example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("EXAMPLE.com.", "api.example.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        ("example.com", "example.com.evil.org", 443, False),
        ("api.example.com", "example.com", 443, False),
        ("example.com:443", "example.com", 443, True),
        ("example.com:8443", "example.com", 443, False),
        ("a.org, example.com  b.org", "example.com", 443, True),
        ("a.org,,b.org", "example.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3/8", "10.9.9.9", 443, True),
        ("10.0.0.0/99", "10.1.2.3", 443, False),
        ("10.0.0.0/8", "example.com", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:80", "10.1.2.3", 443, False),
        ("10.1.2.3:443", "10.1.2.3", 443, True),
        ("0.1.2.3", "10.1.2.3", 443, False),
        ("1.2.3", "0.1.2.3", 443, False),
        ("::1", "::1", 443, True),
        ("[::1]", "::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("[::1]:80", "::1", 443, False),
        ("0:0:0:0:0:0:0:1", "::1", 443, True),
        ("fd00::/8", "fd12::3", 443, True),
        ("fd00::/8", "fe80::3", 443, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 443, True),
        (".", "example.com", 443, False),
        ("localhost", "127.0.0.1", 443, False),
    ],
)
def test_no_proxy_names_hosts_suffixes_ranges_and_ports(no_proxy: str, host: str, port: int, direct: bool) -> None:
    assert (way({"https_proxy": "http://p:1", "no_proxy": no_proxy}, host=host, port=port) == "") == direct
    assert way({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "z.org"}, host=host, port=port) == "http://p:1"


def test_a_proxy_is_shown_without_its_credentials() -> None:
    proxy = read_network({"HTTPS_PROXY": "http://us%40er:s3cret@proxy.example:3128/"}).proxies["https"]
    assert proxy.shown == "http://proxy.example:3128"
    assert proxy.variable == "HTTPS_PROXY"
    assert "s3cret" not in repr(Network({"https": proxy})) + repr(proxy)
    assert Proxy("http://[::1]:3128", "").shown == "http://[::1]:3128"


def test_certificates_are_named_as_openssl_reads_them() -> None:
    network = read_network({"SSL_CERT_FILE": "/a.pem", "SSL_CERT_DIR": "/certs"})
    assert (network.cert_file, network.cert_dir) == ("/a.pem", "/certs")
    assert read_network({}) == Network()


def test_the_model_that_up_starts_is_asked_directly_whatever_the_environment_says() -> None:
    for env in ({}, {"NO_PROXY": "a.org"}, {"no_proxy": "a.org"}):
        made = children_env({"ALL_PROXY": "http://p:1", **env}, decided_env("redis://x", "127.0.0.1", 1, 8123))
        assert way(made, "http", "127.0.0.1", 8123) == ""
        assert way(made, "http", "127.0.0.1", 8124) == "http://p:1"
        assert way(made, host="a.org") == ("" if env else "http://p:1")


def test_trusted_proxies_are_addresses_and_networks() -> None:
    trusted = Settings(trusted_proxies="10.0.0.7, fd00::/8,192.168.1.9/24").proxies
    table = Connections(1, proxies=trusted)
    for address, yes in (
        ("10.0.0.7", True),
        ("::ffff:10.0.0.7", True),
        ("fd12::1%eth0", True),
        ("192.168.1.200", True),
        ("10.0.0.8", False),
        ("127.0.0.1", False),
        ("", False),
    ):
        assert table.trusts(address) is yes, address
    assert not Connections(1).trusts("127.0.0.1")
    with pytest.raises(BadSettings, match=r"HEADRACE_TRUSTED_PROXIES: 'proxy.example' is no address"):
        load({"HEADRACE_TRUSTED_PROXIES": "10.0.0.7,proxy.example"})
