"""Chat completions by OpenAI's own library. In: the base URL, the model, a script as JSON. Out: JSON, what it saw.

Source of what is printed: the library's own objects, after its own accumulation.
"""

import json
import sys

import openai

url, model, prompt = sys.argv[1:4]
client = openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60)
tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
asked = {"model": model, "messages": [{"role": "user", "content": prompt}], "tools": tools}

told: dict = {"models": [one.id for one in client.models.list()]}
try:
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    told["ids"] = sorted({chunk.id for chunk in chunks})
    told["created"] = len({chunk.created for chunk in chunks})
    told["role"] = chunks[0].choices[0].delta.role
    told["streamed"] = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    told["reasoning"] = "".join(
        getattr(one.choices[0].delta, "reasoning_content", "") or "" for one in chunks if one.choices
    )
    told["usage"] = chunks[-1].usage.model_dump()
    told["no usage"] = all(chunk.usage is None for chunk in chunks[:-1])
    told["finish"] = [
        one.choices[0].finish_reason for one in chunks if one.choices and one.choices[0].finish_reason
    ]
    with client.chat.completions.stream(**asked) as stream:
        whole = stream.get_final_completion()
    told["accumulated"] = whole.choices[0].message.model_dump()
    plain = client.chat.completions.create(**asked)
    told["plain"] = plain.choices[0].message.model_dump()
    told["plain usage"] = plain.usage.model_dump()
except openai.APIStatusError as error:
    told["status"] = [type(error).__name__, error.status_code, error.code, error.type, error.param, error.message]
except openai.APIError as error:
    told["error"] = [type(error).__name__, error.code, error.message]
print(json.dumps(told))
