"""Who may read which response, what limits refuse, and what an outage is: in OpenAI's form."""

import asyncio
import json
from pathlib import Path

import httpx

from tests.e2e.test_fairness import with_keys
from tests.support.responses import MODEL, ask, events_of
from tests.support.script import script_text
from tests.support.stack import running_stack


def code(answer: httpx.Response) -> tuple[int, str]:
    told = answer.json()
    assert set(told) == {"error"}, told
    assert told["error"]["message"]
    return answer.status_code, told["error"]["code"]


def body(**more: object) -> dict:
    return {"model": MODEL, "input": json.dumps({"tokens": 2}), **more}


async def test_another_key_s_response_is_not_there(tmp_path: Path) -> None:
    async with with_keys(tmp_path, "one", "two") as (stack, keys):
        client, one, two = stack.client, keys.headers("one"), keys.headers("two")
        made = (await client.post("/v1/responses", json=body(), headers=one)).json()
        path = f"/v1/responses/{made['id']}"
        assert code(await client.get(path)) == (401, "key_missing")
        assert code(await client.post("/v1/responses", json=body())) == (401, "key_missing")
        unknown = f"/v1/responses/resp_{'a' * 24}"
        for method, more in (
            ("GET", ""),
            ("GET", "?stream=true"),
            ("GET", "/input_items"),
            ("POST", "/cancel"),
            ("DELETE", ""),
        ):
            foreign = await client.request(method, path + more, headers=two)
            assert code(foreign) == (404, "stream_not_found")
            nobody_s = await client.request(method, unknown + more, headers=two)
            assert foreign.text.replace(made["id"], "") == nobody_s.text.replace(f"resp_{'a' * 24}", "")
        following = await client.post("/v1/responses", json=body(previous_response_id=made["id"]), headers=two)
        assert code(following) == (404, "previous_response_not_found")
        assert (await client.get(path, headers=one)).json() == made


async def test_a_limit_is_a_429_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with running_stack(tmp_path, HEADRACE_STREAMS_PER_KEY="1") as stack:
        slow = body(input=json.dumps({"tokens": 1000, "interval_ms": 50}), background=True)
        made = (await stack.client.post("/v1/responses", json=slow)).json()
        refused = await stack.client.post("/v1/responses", json=body())
        assert code(refused) == (429, "too_many_streams")
        assert int(refused.headers["retry-after"]) > 0
        await stack.client.post(f"/v1/responses/{made['id']}/cancel")
        assert (await stack.client.post("/v1/responses", json=body())).status_code == 200


async def test_an_outage_of_redis_is_a_503_and_ends_no_response(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        script = {"tokens": 200, "interval_ms": 30}
        slow = body(input=json.dumps(script), background=True)
        made = (await stack.client.post("/v1/responses", json=slow)).json()
        path = f"/v1/responses/{made['id']}"
        await asyncio.to_thread(stack.server.kill)
        for method, where in (
            ("POST", "/v1/responses"),
            ("GET", path),
            ("GET", f"{path}?stream=true&starting_after=3"),
        ):
            answer = await stack.client.request(method, where, json=body() if method == "POST" else None)
            assert code(answer) == (503, "redis_unavailable")
            assert answer.headers["retry-after"]
        await asyncio.to_thread(stack.server.start_again)
        await stack.until_ready()
        events = events_of((await stack.client.get(f"{path}?stream=true", timeout=60)).content)
        assert events[-1]["response"]["status"] == "completed"
        assert events[-1]["response"]["output"][0]["content"][0]["text"] == script_text(script)


async def test_a_long_answer_is_whole(tmp_path: Path) -> None:
    """Its last events are larger than anything that a viewer's buffer holds."""
    async with running_stack(tmp_path) as stack:
        script = {"tokens": 200, "times": 2000}
        events = await ask(stack.client, script)
        text = script_text(script)
        assert len(text) > 1_000_000
        assert "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta") == text
        output = events[-1]["response"]["output"]
        assert output[0]["content"][0]["text"] == text
        behind = len(events) - 4
        path = f"/v1/responses/{events[-1]['response']['id']}?stream=true&starting_after={behind}"
        assert events_of((await stack.client.get(path)).content) == events[behind + 1 :]


async def test_what_is_kept_of_an_input_counts_for_its_key(tmp_path: Path) -> None:
    script = json.dumps({"tokens": 1, "padding": "x" * 100_000})

    async def ask_until_refused(store: bool) -> int:
        """How many of six responses are made, one after another; a refused one is tried for a while."""
        async with with_keys(tmp_path / str(store), "one", HEADRACE_BYTES_PER_KEY="450000") as (stack, keys):
            for made in range(6):
                for _ in range(16):
                    asked = body(input=script, store=store)
                    answer = await stack.client.post("/v1/responses", json=asked, headers=keys.headers("one"))
                    if answer.status_code == 200:
                        break
                    assert code(answer) == (429, "too_many_bytes")
                    await asyncio.sleep(0.25)  # the sweep gives back what an ended stream does not keep
                else:
                    return made
            return 6

    for store in (True, False):
        (tmp_path / str(store)).mkdir()
    assert await ask_until_refused(store=False) == 6
    assert 2 <= await ask_until_refused(store=True) <= 4
