"""A request moves from one fallback to the next, and the last failure tells of all."""

import json

from shared.protocol.fallbacks import moved_on, speaker, with_tried

REQUEST = {
    "provider": "p",
    "model": "one",
    "messages": [],
    "fallbacks": [{"provider": "q", "model": "two"}, {"provider": "p", "model": "three"}],
}


def test_a_request_moves_from_fallback_to_fallback_until_none_is_left() -> None:
    two = moved_on(REQUEST, "provider_auth")
    assert two is not None
    assert (two["provider"], two["model"], two["messages"]) == ("q", "two", [])
    three = moved_on(two, "provider_rate_limited")
    assert three is not None
    assert (three["provider"], three["model"]) == ("p", "three")
    assert moved_on(three, "x") is None
    assert with_tried("No.", three) == (
        "No. Asked before, and failed: p/one (provider_auth), q/two (provider_rate_limited)."
    )
    assert REQUEST["model"] == "one", "what was handed in stays as it was"


def test_a_request_without_fallbacks_stays_and_its_failure_tells_of_nobody_else() -> None:
    assert moved_on({"provider": "p", "model": "m"}, "x") is None
    assert with_tried("No.", {"provider": "p", "model": "m"}) == "No."


def test_the_record_tells_who_speaks() -> None:
    told = speaker({"provider": "p", "model": "org/one"})
    assert told == {"model": "p/org/one", "provider": "p", "about": told["about"]}
    assert json.loads(told["about"]) == {"model": "p/org/one", "provider": "p"}
