"""Responses by OpenAI's own library. In: the base URL, the model, a script as JSON. Out: JSON, what it saw.

Source of what is printed: the library's own objects, after its own accumulation.
"""

import json
import sys

import openai

url, model, prompt = sys.argv[1:4]
client = openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60)
parameters = {"type": "object", "properties": {"query": {"type": "string"}}}
tools = [{"type": "function", "name": "look_up", "parameters": parameters}]
asked = {"model": model, "input": prompt, "tools": tools, "instructions": "Be brief.", "metadata": {"a": "b"}}


def bare(response) -> dict:
    """What every reader of one response must agree upon."""
    told = response.model_dump(exclude={"text", "output"})
    told["output"] = [
        item.model_dump(exclude={"parsed", "parsed_arguments"}, exclude_none=True) for item in response.output
    ]
    for item in told["output"]:
        for part in item.get("content", ()):
            part.pop("parsed", None)
    return told


def resumed(response_id: str, number: int) -> list[int]:
    events = client.responses.retrieve(response_id, stream=True, starting_after=number)
    return [event.sequence_number for event in events]


told: dict = {}
try:
    events = list(client.responses.create(**asked, stream=True))
    last = events[-1]
    response_id = last.response.id
    told["types"] = [event.type for event in events]
    told["numbers"] = [event.sequence_number for event in events] == list(range(len(events)))
    told["text"] = last.response.output_text
    told["deltas"] = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    told["last"] = bare(last.response)
    told["retrieved"] = bare(client.responses.retrieve(response_id))
    # The library replays the whole stream, and leaves out what was seen.
    told["helper"] = []
    for number in range(len(events)):
        with client.responses.stream(response_id=response_id, starting_after=number) as stream:
            seen = [event.sequence_number for event in stream]
            whole = stream.get_final_response() if told["types"][-1] == "response.completed" else last.response
        told["helper"].append([seen == list(range(number + 1, len(events))), bare(whole) == told["last"]])
    told["resumed"] = [
        resumed(response_id, number) == list(range(number + 1, len(events))) for number in range(len(events))
    ]
    with client.responses.stream(**asked) as stream:
        told["accumulated"] = [item.type for item in stream.get_final_response().output]
    plain = client.responses.create(**asked)
    told["plain"] = [plain.output_text, plain.status, plain.usage.total_tokens]
    told["input"] = [item.model_dump() for item in client.responses.input_items.list(response_id)]
    following = client.responses.create(
        model=model,
        previous_response_id=response_id,
        input=[{"type": "function_call_output", "call_id": item.call_id, "output": "found"}
               for item in plain.output if item.type == "function_call"] + [{"role": "user", "content": "And?"}],
    )  # fmt: skip
    told["history"] = [item.type for item in client.responses.input_items.list(following.id, order="asc", limit=2)]
    client.responses.delete(response_id)
    try:
        client.responses.retrieve(response_id)
    except openai.NotFoundError as error:
        told["deleted"] = error.status_code
    background = client.responses.create(**asked, background=True)
    told["background"] = background.status
    told["cancelled"] = [client.responses.cancel(background.id).status for _ in range(2)]
except openai.APIStatusError as error:
    told["status"] = [type(error).__name__, error.status_code, error.code, error.type, error.param, error.message]
except openai.APIError as error:
    told["error"] = [type(error).__name__, error.code, error.message]
print(json.dumps(told))
