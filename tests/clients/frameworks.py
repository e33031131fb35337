"""One tool loop by each library that speaks OpenAI's chat completions. In: the library, the base URL, the model, a
script as JSON. Out: JSON, the text at the end."""

import json
import os
import sys

from tests.clients.tool_loop import agents_loop, asked, langchain_loop, look_up

library, url, model, prompt = sys.argv[1:5]
os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": url}


def langchain() -> str:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=model, base_url=url, streaming=True, stream_usage=True, max_retries=0)
    return langchain_loop(chat, prompt)


def litellm() -> str:
    import litellm

    tools = [
        {
            "type": "function",
            "function": {
                "name": "look_up",
                "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
            },
        }
    ]
    messages: list = [{"role": "user", "content": prompt}]
    while True:
        chunks = list(
            litellm.completion(model=f"openai/{model}", messages=messages, tools=tools, stream=True, num_retries=0)
        )
        message = litellm.stream_chunk_builder(chunks).choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message.model_dump())
        for call in message.tool_calls:
            found = look_up(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": found})


def pydantic_ai() -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent = Agent(OpenAIChatModel(model, provider=OpenAIProvider(base_url=url, api_key="any")), tools=[look_up])
    return str(agent.run_sync(prompt).output)


def openai_agents() -> str:
    from agents import OpenAIChatCompletionsModel
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="any", max_retries=0)
    return agents_loop(OpenAIChatCompletionsModel(model, client), prompt)


ways = {
    "langchain-openai": langchain,
    "litellm": litellm,
    "pydantic-ai": pydantic_ai,
    "openai-agents": openai_agents,
}
text = ways[library]()
print(json.dumps({"text": text, "asked": asked}))
