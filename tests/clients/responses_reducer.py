"""What OpenAI's library makes of events. In: a file with a JSON list of SSE bodies. Out: JSON, what each response
is at its end."""

import json
import sys
from pathlib import Path

import httpx2
import openai

bodies: list[str] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def answer(request: httpx2.Request) -> httpx2.Response:
    body = bodies[int(request.url.path.rpartition("/")[2])]
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=body)


client = openai.OpenAI(
    base_url="http://127.0.0.1/v1",
    api_key="any",
    max_retries=0,
    http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
)
told = []
for number in range(len(bodies)):
    with client.responses.stream(response_id=str(number)) as stream:
        snapshots: dict[str, str] = {}
        for event in stream:
            if event.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
                snapshots[event.item_id] = event.snapshot
        output = [item.to_dict() for item in stream.get_final_response().output]
    for item in output:
        item.pop("parsed_arguments", None)
        for part in item.get("content", ()):
            part.pop("parsed", None)
    told.append({"output": output, "snapshots": snapshots})
print(json.dumps(told))
