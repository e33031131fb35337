"""What an error of a provider may not carry on: the key, in any form, and what the request says."""

import base64
import json
import time
from urllib.parse import quote

import pytest

from tests.support.provider_calls import KEY, at, calm_client, events_of
from tests.support.scripted_provider import ScriptedProvider
from worker.providers.base import GenerationRequest, ProviderError
from worker.providers.failures import ECHO, MAX_SENTENCE, cleaned

SECRET = 'sk-pröj/0123+ab="Z 9'
PROMPT = (
    "My name is Ada and the number of my account is 4711-0815.\n"
    'She said "流れ" and left; the password of the safe stands on page 12 of the red book.'
)


def shown(text: str, key: str = "", request: GenerationRequest | None = None) -> str:
    return str(cleaned(ProviderError("provider_refused", text), key, request))


def asked(content: object = PROMPT) -> GenerationRequest:
    return GenerationRequest(
        "m", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    )


@pytest.mark.parametrize("key", [KEY, SECRET])
@pytest.mark.parametrize(
    "form",
    [
        lambda key: key,
        lambda key: quote(key, safe=""),
        lambda key: quote(key, safe="").lower(),
        lambda key: "".join(f"%{byte:02X}" for byte in key.encode()),
        lambda key: json.dumps(key)[1:-1],
        lambda key: "".join(f"\\u{ord(one):04x}" for one in key),
        lambda key: "\n  ".join((key[:7], key[7:13], key[13:])),
        lambda key: key.encode().hex(),
        lambda key: key.upper(),
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
        lambda key: "Basic " + base64.b64encode(f":{key}".encode()).decode(),
        lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
        lambda key: base64.b64encode(f"me:{key}\n".encode()).decode(),
    ],
)
def test_the_key_is_shown_in_no_form(key: str, form: object) -> None:
    echoed = form(key)  # type: ignore[operator]
    told = shown(f"The key {echoed} is wrong", key)
    assert "[key]" in told
    assert told.startswith("The key ")
    assert told.endswith(" is wrong")
    left = told.removeprefix("The key ").removesuffix(" is wrong").replace("[key]", "").removeprefix("Basic ")
    assert len(left) <= 14, left  # of what stood around it in base64


def test_a_short_key_is_looked_for_as_it_is() -> None:
    assert shown("the key x7 and 7837", "x7") == "the key [key] and 7837"


def test_a_short_key_is_a_word_and_no_part_of_one() -> None:
    """What local servers are given in a key's place: the words of the error stay readable."""
    text = "The provider 'local' took too long: check LOCAL_BASE_URL"
    assert shown(text, "k") == text
    assert shown(f"{text} (key=k, Bearer k)", "k") == f"{text} (key=[key], Bearer [key])"


@pytest.mark.parametrize(
    "echo",
    [
        PROMPT,
        PROMPT[3:60],
        json.dumps(PROMPT),
        json.dumps(PROMPT, ensure_ascii=False),
        json.dumps({"messages": asked().messages}),
        PROMPT.replace("\n", "   \r\n"),
        PROMPT * 20,
    ],
)
@pytest.mark.parametrize("before", ["", "x" * 7, "The request was refused: ", "y" * 33])
@pytest.mark.parametrize("parts", [False, True])
def test_the_request_s_own_words_are_cut_out(echo: str, before: str, parts: bool) -> None:
    request = asked([{"type": "text", "text": PROMPT}] if parts else PROMPT)
    told = shown(f"{before}{echo} - say something else.", "", request)
    assert "[…]" in told
    assert told.startswith(before.rstrip())
    one_line = " ".join(PROMPT.split())
    assert not any(one_line[n : n + ECHO] in told for n in range(len(one_line) - ECHO))
    assert len(told) <= MAX_SENTENCE
    if len(echo) < 2 * len(PROMPT):
        assert told.endswith("say something else.")


def test_a_text_that_only_looks_like_the_request_is_kept() -> None:
    text = "The number of my account is not known, and the password of the door is wrong. " + "Try again. " * 5
    assert shown(text, "", asked()) == text.strip()
    assert shown(text, "", None) == text.strip()


def test_looking_for_echoes_in_a_large_request_takes_no_time() -> None:
    request = asked("".join(f"{n:07d} " for n in range(32_000)))
    began = time.process_time()
    shown("1234567 " * 10_000, "", request)
    assert time.process_time() - began < 1.0  # 20 ms of an idle machine


@pytest.mark.parametrize("where", ["status", "stream"])
async def test_an_echo_reaches_nobody_by_whatever_way_it_came(where: str) -> None:
    async with ScriptedProvider() as provider, calm_client(provider_tries=1) as client:
        said = f"can't take {PROMPT}"
        script: dict[str, object] = {"status": 400, "body": {"error": {"message": said}}}
        if where == "stream":
            script = {"raw": f"data: {json.dumps({'error': {'message': said}})}\n\n"}
        request = GenerationRequest("m", [{"role": "user", "content": json.dumps(script)}])
        with pytest.raises(ProviderError) as caught:
            async for _ in events_of(client, at(provider.base_url), request):
                pass
    assert "[…]" in str(caught.value)
    assert "account" not in str(caught.value)
    assert "password" not in str(caught.value)
