"""Read tokens: of one stream, for a while, and of nobody who tampers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.read_token import TokenExpired, TokenInvalid, check_token, sign_token

SECRET = b"secret"
ID = "A" * 24
BORN_MS = 100_000
"""When the stream was created."""
TOKEN = sign_token(SECRET, ID, BORN_MS, 1000)


def test_a_token_opens_its_stream_until_it_expires() -> None:
    check_token(SECRET, ID, BORN_MS, TOKEN, 0)
    check_token(SECRET, ID, BORN_MS, TOKEN, 999.9)
    with pytest.raises(TokenExpired):
        check_token(SECRET, ID, BORN_MS, TOKEN, 1000)


def test_a_viewer_that_comes_back_has_a_grace_that_ends_too() -> None:
    check_token(SECRET, ID, BORN_MS, TOKEN, 1099.9, grace_s=100)
    with pytest.raises(TokenExpired):
        check_token(SECRET, ID, BORN_MS, TOKEN, 1100, grace_s=100)


def test_a_token_opens_no_other_stream_and_no_other_server() -> None:
    with pytest.raises(TokenInvalid):
        check_token(SECRET, "B" * 24, BORN_MS, TOKEN, 0)
    with pytest.raises(TokenInvalid):
        check_token(b"another", ID, BORN_MS, TOKEN, 0)


def test_a_token_opens_no_later_stream_of_the_same_id() -> None:
    with pytest.raises(TokenInvalid):
        check_token(SECRET, ID, BORN_MS + 1, TOKEN, 0)


def test_its_expiry_can_not_be_moved() -> None:
    with pytest.raises(TokenInvalid):
        check_token(SECRET, ID, BORN_MS, TOKEN.replace("1000.", "2000."), 1500)


@given(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=255))
def test_any_changed_character_is_refused(place: int, character: str) -> None:
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    if changed != TOKEN:
        with pytest.raises(TokenInvalid):
            check_token(SECRET, ID, BORN_MS, changed, 0)


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        check_token(SECRET, ID, BORN_MS, text, 0)


def test_an_expired_token_that_was_tampered_with_is_invalid_and_not_expired() -> None:
    with pytest.raises(TokenInvalid):
        check_token(SECRET, ID, BORN_MS, TOKEN[:-1] + ("A" if TOKEN[-1] != "A" else "B"), 5000)
