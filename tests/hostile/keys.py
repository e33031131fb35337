"""Attacks on the doors: wrong keys, tricks with paths, other people's streams, tokens that should be over."""

import asyncio
import base64
import contextlib
import re
import time
from typing import Final

from tests.hostile.attack import Attack, Told
from tests.hostile.wire import ask, connect, head, outcome_of
from tests.hostile.world import HOSTILE, SCRIPTED, World, spread
from tests.support.routes import ONE_STREAM, ROUTES

FLOOD_S = 3.0
PIPELINED = 10
"""Requests in one write: more than a few are refused by themselves."""


async def variants_of_keys(world: World, told: Told) -> None:
    """A key that is nearly right is wrong."""
    secret = world.keys[world.me]
    basic = base64.b64encode(f"x:{secret}".encode()).decode()
    values = (
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        secret,
        f"Basic {basic}",
        f"Basic {secret}",
        f"Token {secret}",
        f"Bearer{secret}",
        f"Bearer {secret}x",
        f"Bearer {secret[:-1]}",
        f"Bearer {secret[1:]}",
        f"Bearer {secret.upper()}",
        f"Bearer {secret.lower()}",
        f"Bearer {secret},",
        f"Bearer {secret}, Bearer x",
        f"Bearer x, Bearer {secret}",
        f"Bearer Bearer {secret}",
        f'Bearer "{secret}"',
        f"Bearer {secret}%00",
        f"Bearer {secret}%20x",
        f"Bearer {secret}\x7f",
        f"Bearer mallory:{secret}",
        "Bearer mallory",
        "Bearer null",
        "Bearer undefined",
        "Bearer *",
        "Bearer hr_",
        "Bearer " + "hr_" + "A" * 43,
        "Bearer " + "ü" * 43,
        "Bearer " + "x" * 30_000,
    )
    for url in world.urls:
        for value in values:
            answer = await ask(url, head("GET", "/v1/models", f"Authorization: {value}"), within_s=3)
            told.outcomes[answer.outcome] += 1
            told.expect(200 not in answer.statuses, f"this opened: {value[:60]!r}")
        for line in (f"X-Api-Key: {secret}", f"Cookie: key={secret}", f"Proxy-Authorization: Bearer {secret}"):
            told.outcomes[(await ask(url, head("GET", "/v1/models", line), within_s=3)).outcome] += 1
        two = head("GET", "/v1/models", "Authorization: Bearer wrong", f"Authorization: Bearer {secret}")
        told.outcomes[(await ask(url, two, within_s=3)).outcome] += 1


PATHS: Final = (
    *(
        f"/static/{up}{to}"
        for up in ("../", "%2e%2e/", "..%2f", "%2e%2e%2f", "..\\", "..;/")
        for to in ("v1/models", "metrics")
    ),
    *(f"{front}/v1/models" for front in ("/", "/.", "/static/..", "/healthz/..", "/%2e", "/;", "/healthz;")),
    *(
        f"/v1/models{end}"
        for end in ("/", "/.", "%00", "%20", ";x", "#x", "?token=x", "/..;/healthz", "%2f", ".json")
    ),
    *("/V1/models", "/v1//models", "/v1/%6dodels", "/v1/models%0d%0aX:y", "/v1/streams/../models", "*"),
    *("/static/../../../../../../etc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/static//etc/passwd"),
)


async def tricks_with_paths(world: World, told: Told) -> None:
    """No way of writing a path leads around the key."""
    for url in world.urls:
        for path in PATHS:
            answer = await ask(url, head("GET", path), within_s=3)
            told.outcomes[answer.outcome] += 1
            inside = b"smollm2" in answer.data or b"headrace_" in answer.data or b"root:" in answer.data
            told.expect(not inside, f"opened without a key: {path}")


async def foreign_streams(world: World, told: Told) -> None:
    """Another key's stream does not exist, on any route; and nothing happens to it."""
    made = await world.stack.create({"tokens": 500, "interval_ms": 20}, model=SCRIPTED)
    for url in world.urls:
        for name in (world.me, "mob-1"):
            for method, path in ONE_STREAM:
                data = head(method, path.format(id=made["id"]), world.bearer(name), "Content-Length: 0")
                told.outcomes[(await ask(url, data, within_s=3)).outcome] += 1
        for method, path in ROUTES:
            told.outcomes[(await ask(url, head(method, path.format(id=made["id"])), within_s=3)).outcome] += 1
    status = (await world.stack.client.get(f"/v1/streams/{made['id']}")).json().get("status")
    told.expect(status == "running", f"the stream of another key is {status}")
    await world.stack.client.delete(f"/v1/streams/{made['id']}")


async def wrong_keys_at_high_rate(world: World, told: Told) -> None:
    """As many wrong keys as eight connections carry, ten requests a write."""
    request = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer hr_wrong\r\n\r\n" * PIPELINED
    until = time.monotonic() + FLOOD_S

    async def one(url: str) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                reader, writer = await connect(url)
                try:
                    while time.monotonic() < until:
                        writer.write(request)
                        await writer.drain()
                        answers = b""
                        while answers.count(b"HTTP/1.1 ") < PIPELINED and (piece := await reader.read(65536)):
                            answers += piece
                        for status in re.findall(rb"HTTP/1\.1 (\d{3})", answers):
                            told.outcomes[status.decode()] += 1
                        if answers.count(b"HTTP/1.1 ") < PIPELINED:
                            told.outcomes["closed"] += 1
                            break
                finally:
                    writer.transport.abort()

    await asyncio.gather(*(one(url) for url in world.urls for _ in range(8)))
    told.figures.append(f"{sum(told.outcomes.values()) / FLOOD_S:.0f}/s")


async def cancels_and_deletes(world: World, told: Told) -> None:
    """1,500 cancels and deletes at once, of streams that are there, are not, and are another key's."""
    own = [await world.create(told, {"tokens": 2000, "interval_ms": 50}) for _ in range(100)]
    ids = [made["id"] for made in own if made] + ["A" * 24, "x", "%00" * 20]

    async def one(n: int) -> None:
        path = f"/v1/streams/{ids[n % len(ids)]}"
        answer = await (world.mallory.delete(path) if n % 3 else world.mallory.post(path + "/cancel"))
        told.outcomes[outcome_of(answer.status_code, answer.content)] += 1

    await spread(64, (one(n) for n in range(1500)))


async def tokens_that_are_over(world: World, told: Told) -> None:
    """An expired read token opens nothing to whoever has no place in the log, nor a stream that was made again."""
    key = {"Idempotency-Key": "made again"}
    body = {"model": SCRIPTED, "prompt": '{"tokens": 20}'}
    first = (await world.mallory.post("/v1/streams", json=body, headers=key)).json()
    last = (await world.until_ended(first["id"], 5)).get("last_event_id", "")
    await asyncio.sleep(2.5)  # the token lives two seconds here
    for cursor in ("", "1-0", "0-0", "1795355405590-0", "99999999999999-0", last.partition("-")[0] + "-999999"):
        headers = {"Last-Event-ID": cursor} if cursor else {}
        async with world.stranger.stream("GET", first["events_url"], headers=headers) as answer:
            text = b"".join([piece async for piece in answer.aiter_bytes()]) if answer.status_code >= 400 else b""
            told.outcomes[outcome_of(answer.status_code, text)] += 1
            told.expect(
                answer.status_code == 401, f"an expired token and the cursor {cursor!r}: {answer.status_code}"
            )
    await world.mallory.delete(f"/v1/streams/{first['id']}")
    made = (await world.mallory.post("/v1/streams", json=body, headers=key)).json()
    old = first["events_url"]
    again = (
        await world.mallory.post(
            "/v1/streams", json={**body, "prompt": '{"tokens": 3}'}, headers={"Idempotency-Key": "fresh"}
        )
    ).json()
    fresh = again["events_url"]
    await world.mallory.delete(f"/v1/streams/{again['id']}")
    remade = (await world.mallory.post("/v1/streams", json=body, headers={"Idempotency-Key": "fresh"})).json()
    for url in (old, fresh):
        async with world.stranger.stream("GET", url) as answer:
            told.outcomes[str(answer.status_code)] += 1
            told.expect(answer.status_code in (401, 404), "a token of an erased stream opened the one made again")
    world.made += [(world.me, one["id"]) for one in (made, remade) if "id" in one]


OPTIONS: Final = (
    {"stream_options": {"include_usage": False}},
    {"service_tier": "priority"},
    {"best_of": 20},
    {"n": 5},
    {"max_tokens": 10**6},
    {"max_completion_tokens": 10**6},
    {"api_base": "http://127.0.0.1:1/v1"},
    {"base_url": "http://127.0.0.1:1/v1"},
    {"api_key": "x"},
    {"extra_headers": {"X": "y"}},
    {"custom_llm_provider": "openai"},
    {"web_search_options": {}},
    {"tools": [{"type": "web_search"}]},
    {"plugins": [{"id": "web"}]},
    {"store": True},
    {"background": True},
    {"models": ["a", "b"]},
    {"fallbacks": ["a"]},
    {"usage": {"include": False}},
    {"stream": False},
)


async def options_of_providers(world: World, told: Told) -> None:
    """What costs, or goes elsewhere, can't be asked for in provider_options."""
    for n, options in enumerate(OPTIONS):
        prompt = {"harm": "bytes behind [DONE]", "name": f"options {n}"}
        made = await world.create(told, prompt, model=HOSTILE, provider_options=options)
        told.expect(not made, f"taken: provider_options {options}")


async def images_and_addresses(world: World, told: Told) -> None:
    """An address in a prompt is the provider's to fetch; Headrace itself calls none."""
    before = len(world.harm.elsewhere)
    text = '{"harm": "terminal escapes", "name": "images"}'
    for url in (
        f"{world.harm.url}/image.png",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "ftp://x/y",
        "data:,x",
    ):
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
        body = {
            "model": HOSTILE,
            "messages": [{"role": "user", "content": parts}, {"role": "user", "content": text}],
        }
        answer = await world.mallory.post("/v1/streams", json=body)
        told.outcomes[outcome_of(answer.status_code, answer.content)] += 1
        if answer.status_code == 202:
            world.made.append((world.me, answer.json()["id"]))
            await world.until_ended(answer.json()["id"], 5)
    told.expect(len(world.harm.elsewhere) == before, f"fetched: {world.harm.elsewhere[before:]}")


ATTACKS = (
    Attack("36 variants of keys", variants_of_keys, ("401",), ("400", "431"), short=True),
    Attack("38 tricks with paths", tricks_with_paths, ("401", "404"), ("400",), short=True),
    Attack("another key's stream on every route", foreign_streams, ("404",), ("401",), short=True),
    Attack("wrong keys as fast as they go", wrong_keys_at_high_rate, ("401",), ("429", "closed")),
    Attack("1,500 cancels and deletes, 64 at once", cancels_and_deletes, also=("20", "404", "429")),
    Attack("read tokens that are over", tokens_that_are_over, ("401",), ("404",), where="tight"),
    Attack("provider_options that cost", options_of_providers, ("422",), short=True),
    Attack("addresses of images", images_and_addresses, also=("202", "422"), short=True),
)
