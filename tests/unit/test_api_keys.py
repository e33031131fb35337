"""API keys: what an entry is, whose a secret is, and where the server may listen without any."""

import hashlib

import pytest

from shared.config.api_keys import BadApiKeys, new_api_key, parse_api_keys
from shared.config.settings import BadSettings, check_open, load


def test_a_new_key_opens_by_its_secret_and_shows_only_its_hash() -> None:
    secret, entry = new_api_key("alice")
    keys = parse_api_keys(entry)
    assert keys.owner(secret) == "alice"
    assert secret not in entry
    assert entry == f"alice:{hashlib.sha256(secret.encode()).hexdigest()}"
    assert secret not in repr(keys)


def test_each_new_secret_is_another_one_of_256_bits() -> None:
    secrets = {new_api_key("a")[0] for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(secret.removeprefix("hr_")) == 43 for secret in secrets)


def test_a_wrong_secret_is_nobodys() -> None:
    secret, entry = new_api_key("alice")
    keys = parse_api_keys(entry)
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), entry, entry.partition(":")[2], "ü", "\udcff"):
        assert keys.owner(wrong) is None


def test_two_secrets_of_one_name_are_one_owner() -> None:
    (old, one), (new, two), (other, three) = (new_api_key(name) for name in ("alice", "alice", "bob"))
    keys = parse_api_keys(f" {one} , {two},{three.replace('bob:', 'bob:').upper().replace('BOB', 'bob')}, ")
    assert [keys.owner(secret) for secret in (old, new, other)] == ["alice", "alice", "bob"]


def test_an_empty_setting_has_no_keys() -> None:
    assert not parse_api_keys("")
    assert parse_api_keys("").owner("anything") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alice", "entry 1 is not NAME:hash"),
        ("alice:", "entry 1 is not NAME:hash"),
        ("alice:abc", "headrace key new NAME"),
        (f"alice:{'g' * 64}", "64 hex digits"),
        (f":{'a' * 64}", "has no name"),
        (f"al ice:{'a' * 64}", "has no name"),
        (f"alice:{'a' * 64},bob", "entry 2 is not"),
        (",", "no entry"),
    ],
)
def test_an_entry_that_is_none_is_named_in_the_error(text: str, words: str) -> None:
    with pytest.raises(BadApiKeys) as caught:
        parse_api_keys(text)
    assert words in str(caught.value)
    with pytest.raises(BadSettings, match="HEADRACE_API_KEYS: "):
        load({"HEADRACE_API_KEYS": text})


@pytest.mark.parametrize(
    "text", ["alice:SECRET", "SECRET", "SECRET:", ":SECRET", "SECRET:alice", "alice SECRET", "SECRET,SECRET"]
)
def test_a_secret_in_the_wrong_place_is_not_repeated_in_the_error(text: str) -> None:
    secret, entry = new_api_key("alice")
    for keys in (text, f"{entry},{text}"):
        with pytest.raises(BadSettings, match="HEADRACE_API_KEYS: entry") as caught:
            load({"HEADRACE_API_KEYS": keys.replace("SECRET", secret)})
        assert secret.removeprefix("hr_") not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a,b", "x" * 65, "ü"])
def test_a_name_that_would_break_the_list_is_refused(name: str) -> None:
    with pytest.raises(BadApiKeys):
        new_api_key(name)


LOOPBACK = ["127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"]
ELSEWHERE = ["0.0.0.0", "::", "", "192.168.1.5", "example.com", "::ffff:10.0.0.1", "2001:db8::1"]


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a_server_without_keys_does_not_listen_where_others_reach_it(host: str) -> None:
    with pytest.raises(BadSettings, match="headrace key new") as caught:
        check_open(load({}).settings, host)
    assert "HEADRACE_ALLOW_OPEN=true" in str(caught.value)
    check_open(load({"HEADRACE_ALLOW_OPEN": "true"}).settings, host)
    check_open(load({"HEADRACE_API_KEYS": new_api_key("a")[1]}).settings, host)


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_server_without_keys_listens_on_loopback(host: str) -> None:
    check_open(load({}).settings, host)


@pytest.mark.parametrize("text", ["example.com", "https://example.com/", "https://a.example/x", "ftp://a"])
def test_a_value_that_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="HEADRACE_CORS_ORIGINS"):
        load({"HEADRACE_CORS_ORIGINS": text})


def test_origins_are_a_list() -> None:
    settings = load({"HEADRACE_CORS_ORIGINS": "https://a.example, http://localhost:3000"}).settings
    assert settings.origins == ["https://a.example", "http://localhost:3000"]
