"""A conversation with everything in it, as `api/schemas/messages.py` hands it on: what each wire format makes of
it."""

from typing import Any

TOOL: dict[str, Any] = {
    "name": "look",
    "description": "Looks at a thing.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "additionalProperties": False},
}

CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be short."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image", "url": "https://example.com/a.png"},
            {"type": "image", "data": "aGk=", "media_type": "image/png"},
        ],
    },
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "c1", "name": "look", "arguments": '{"at":"a"}'},
            {"id": "c2", "name": "look", "arguments": "{}"},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": '{"seen":"流れ"}'},
    {"role": "tool", "tool_call_id": "c2", "content": "nothing"},
    {"role": "user", "content": "And now?"},
]
