"""One tool loop by each library that speaks OpenAI's Responses. In: the library, the base URL, the model, a script.
Out: JSON, the text at the end and what the tool was asked."""

import asyncio
import json
import os
import sys

library, url, model, prompt = sys.argv[1:5]
os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": url}
asked: list[str] = []


def look_up(query: str) -> str:
    """Look something up."""
    asked.append(query)
    return "found"


def langchain(*, previous: bool = False) -> str:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(
        model=model, base_url=url, use_responses_api=True, use_previous_response_id=previous, max_retries=0
    )
    bound = chat.bind_tools([tool(look_up)])
    messages: list = [HumanMessage(prompt)]
    while True:
        whole = None
        for chunk in bound.stream(messages):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        if not whole.tool_calls:
            assert whole.usage_metadata["total_tokens"] > 0
            return whole.text
        messages.append(whole)
        messages += [ToolMessage(look_up(**call["args"]), tool_call_id=call["id"]) for call in whole.tool_calls]


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
    from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    told = OpenAIResponsesModel(model, AsyncOpenAI(base_url=url, api_key="any", max_retries=0))
    agent = Agent(name="a", instructions="Be brief.", tools=[function_tool(look_up)], model=told)

    async def run() -> str:
        if not streamed:
            return str((await Runner.run(agent, prompt)).final_output)
        result = Runner.run_streamed(agent, prompt)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    return asyncio.run(run())


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
