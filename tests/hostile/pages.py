"""Attacks by a page on another site, in the browser of somebody who runs Headrace without keys."""

import json

from tests.hostile.attack import Attack, Told
from tests.hostile.wire import address, ask, head, post
from tests.hostile.world import HOSTILE, SCRIPTED, World

FOREIGN = ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Referer: https://evil.example/")
IMAGE = (
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Mode: no-cors",
    "Sec-Fetch-Dest: image",
    "Referer: https://evil.example/",
)


def _named(url: str) -> str:
    host, port = address(url)
    return f"{host}:{port}"


async def images(world: World, told: Told) -> None:
    """20 images whose address asks for an answer."""
    path = f"/chat/stream?model={HOSTILE}&prompt=%7B%22harm%22:%22silence%22,%22name%22:%22images%22%7D"
    for url in world.urls:
        for _ in range(20):
            answer = await ask(url, head("GET", path, *IMAGE, host=_named(url)), within_s=0.3)
            told.outcomes[answer.outcome] += 1
    calls = world.harm.calls["images"].calls
    told.expect(not calls, f"{calls} requests went to the provider")


async def forms(world: World, told: Told) -> None:
    """What a form or a script of another site can send without asking: creates, cancels, erases."""
    made = await world.stack.create({"tokens": 500, "interval_ms": 20}, model=SCRIPTED)
    await world.stack.until_said(made["id"])
    stream = f"/v1/streams/{made['id']}"
    body = json.dumps({"prompt": "x", "model": SCRIPTED}).encode()
    before = len(world.stack.provider.calls)
    for url in world.urls:
        for headers in (FOREIGN, FOREIGN[:1], FOREIGN[1:2], ("Origin: null",), ("Origin: http://127.0.0.1:1",)):
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                for path in ("/v1/streams", "/chat/stream", "/stream/aware"):
                    length = f"Content-Length: {len(body)}"
                    data = head("POST", path, f"Content-Type: {kind}", length, *headers, host=_named(url)) + body
                    told.outcomes[(await ask(url, data, within_s=0.5)).outcome] += 1
            for method, path in (("POST", stream + "/cancel"), ("DELETE", stream), ("POST", stream + "/token")):
                data = head(method, path, "Content-Length: 0", *headers, host=_named(url))
                told.outcomes[(await ask(url, data, within_s=0.5)).outcome] += 1
    calls = len(world.stack.provider.calls) - before
    told.expect(not calls, f"{calls} requests went to the provider")
    status = (await world.record(made["id"])).get("status", "gone")
    told.expect(status == "running", f"the stream is {status}")
    await world.stack.client.delete(stream)


async def rebound_names(world: World, told: Told) -> None:
    """A name of the attacker's that resolves to loopback: for the browser the page is of the same site."""
    for url in world.urls:
        _, port = address(url)
        for host in (
            f"evil.example:{port}",
            "evil.example",
            f"127.0.0.1.evil.example:{port}",
            f"localhost.evil.example:{port}",
            "",
        ):
            for data in (
                head("GET", "/v1/models", "Sec-Fetch-Site: same-origin", host=host),
                head("GET", f"/chat/stream?model={SCRIPTED}&prompt=x", host=host),
                post("/v1/streams", {"prompt": "x"}, f"Origin: http://{host}").replace(
                    b"Host: 127.0.0.1\r\n", f"Host: {host}\r\n".encode()
                ),
                head("GET", "/metrics", host=host),
            ):
                told.outcomes[(await ask(url, data, within_s=0.5)).outcome] += 1


async def friends(world: World, told: Told) -> None:
    """curl, scripts and Headrace's own page go on working."""
    for url in world.urls:
        host, port = address(url)
        body = {"prompt": '{"tokens": 3}', "model": SCRIPTED}
        own = f"Origin: http://{host}:{port}"
        for data in (
            post("/v1/streams", body).replace(b"Host: 127.0.0.1\r\n", f"Host: {host}:{port}\r\n".encode()),
            post("/v1/streams", body, own, "Sec-Fetch-Site: same-origin").replace(
                b"Host: 127.0.0.1\r\n", f"Host: {host}:{port}\r\n".encode()
            ),
            head("GET", f"/chat/stream?model={SCRIPTED}&prompt=hello", host=f"localhost:{port}"),
            head(
                "GET",
                f"/chat/stream?model={SCRIPTED}&prompt=hello",
                "Sec-Fetch-Site: none",
                host=f"localhost:{port}",
            ),
            head("GET", "/", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", host=f"localhost:{port}"),
            head("GET", "/healthz", host=f"{host}:{port}"),
        ):
            answer = await ask(url, data, within_s=5)
            told.outcomes[answer.outcome] += 1
            told.expect(answer.outcome in ("200", "202"), f"{answer.outcome} for {data[:160]!r}")


ATTACKS = (
    Attack("20 images of another site", images, ("403",), where="open", short=True),
    Attack("forms and scripts of another site", forms, ("403",), ("4",), where="open", short=True),
    Attack("names that resolve to loopback", rebound_names, ("4",), where="open", short=True),
    Attack("curl and its own page, let in", friends, also=("200", "202"), where="open", short=True),
)
