"""One tool loop by each library that speaks OpenAI's Responses. In: the library, the base URL, the model, a script.
Out: JSON, the text at the end and what the tool was asked."""

import json
import os
import sys

from tests.clients.tool_loop import agents_loop, asked, langchain_loop, look_up

library, url, model, prompt = sys.argv[1:5]
os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": url}


def langchain(*, previous: bool = False) -> str:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(
        model=model, base_url=url, use_responses_api=True, use_previous_response_id=previous, max_retries=0
    )
    return langchain_loop(chat, prompt)


def structured() -> str:
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    class Answer(BaseModel):
        flood: int

    chat = ChatOpenAI(model=model, base_url=url, use_responses_api=True, max_retries=0)
    return str(chat.with_structured_output(Answer, method="json_schema").invoke(prompt).flood)


def pydantic_ai() -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent = Agent(
        OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=url, api_key="any")), tools=[look_up]
    )
    return str(agent.run_sync(prompt).output)


def openai_agents(*, streamed: bool = True) -> str:
    from agents import OpenAIResponsesModel
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="any", max_retries=0)
    return agents_loop(OpenAIResponsesModel(model, client), prompt, streamed=streamed)


ways = {
    "langchain-openai": langchain,
    "langchain-openai, by the previous response": lambda: langchain(previous=True),
    "langchain-openai, structured": structured,
    "pydantic-ai": pydantic_ai,
    "openai-agents": openai_agents,
    "openai-agents, whole": lambda: openai_agents(streamed=False),
}
text = ways[library]()
print(json.dumps({"text": text, "asked": asked}))
