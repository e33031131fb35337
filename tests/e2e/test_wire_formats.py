"""A recorded answer of each native wire format, all the way from the provider into log, viewer and record."""

from pathlib import Path

from tests.support.replay import replaying
from tests.support.stack import running_stack
from tests.support.viewing import view_to_end

DATA = Path(__file__).parents[1] / "data"


async def test_recorded_answers_reach_viewer_and_record_alike(tmp_path: Path) -> None:
    recorded = {name: (DATA / f"{name}.sse").read_bytes() for name in ("anthropic", "google")}
    async with replaying(recorded["anthropic"]) as one, replaying(recorded["google"]) as two:
        addresses = {"ANTHROPIC_BASE_URL": one, "GOOGLE_BASE_URL": two}
        keys = {"ANTHROPIC_API_KEY": "sk-a", "GOOGLE_API_KEY": "sk-g"}
        async with running_stack(tmp_path, **addresses, **keys) as stack:
            for model, output in (("anthropic/claude-sonnet-4-5", 89), ("google/gemini-2.5-flash", 58)):
                made = await stack.create("hello", model=model)
                seen = await view_to_end(stack.client, made["events_url"])
                assert seen.types == ["started", "finishing", "done"]
                assert seen.events[-1][1]["finish_reason"] == "tool_calls"
                assert seen.events[-1][1]["usage"]["output_tokens"] == output
                record = await stack.record(made["id"])
                assert record["text"] == seen.text == "流れ 🌊\n👩 Über"
                assert record["reasoning"] == "Wie hoch? 高さ"
                assert [call["name"] for call in record["tool_calls"]] == ["get_weather", "get_time"]
                parts = [data["provider"] for kind, data in seen.events if kind == "message" and "provider" in data]
                assert record["provider_parts"] == parts != []
