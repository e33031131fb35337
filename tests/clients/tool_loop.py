"""What each library's tool loop needs: a tool that notes what it was asked, and the two loops that are alike for
both of OpenAI's APIs."""

import asyncio
from typing import Any

asked: list[str] = []


def look_up(query: str) -> str:
    """Look something up."""
    asked.append(query)
    return "found"


def langchain_loop(chat: Any, prompt: str) -> str:
    """Stream until the model calls no tool any more. Out: the text at the end."""
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    bound = chat.bind_tools([tool(look_up)])
    messages: list = [HumanMessage(prompt)]
    while True:
        whole = None
        for chunk in bound.stream(messages):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        if not whole.tool_calls:
            assert whole.usage_metadata["total_tokens"] > 0
            return str(whole.text)
        messages.append(whole)
        messages += [ToolMessage(look_up(**call["args"]), tool_call_id=call["id"]) for call in whole.tool_calls]


def agents_loop(model: Any, prompt: str, *, streamed: bool = True) -> str:
    """One run of an agent of openai-agents. Out: the text at the end."""
    from agents import Agent, Runner, function_tool, set_tracing_disabled

    set_tracing_disabled(True)
    agent = Agent(name="a", instructions="Be brief.", tools=[function_tool(look_up)], model=model)

    async def run() -> str:
        if not streamed:
            return str((await Runner.run(agent, prompt)).final_output)
        result = Runner.run_streamed(agent, prompt)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    return asyncio.run(run())
