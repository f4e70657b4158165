"""Agents of Python frameworks, unchanged: `python agent_frameworks.py NAME`, the name of a function here.

Each runs one tool and answers. Each tells the model's first answer in its own way when it sends it back.
"""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any

from scenarios import run, sunny

KEY, GEMINI = os.environ["GEMINI_API_KEY"], os.environ["GOOGLE_GEMINI_BASE_URL"]


def _langchain(model: Any, name: str) -> Any:
    from langchain.agents import create_agent

    agent = create_agent(model, tools=[sunny], system_prompt="You help.", name="boss")
    return agent.invoke({"messages": [{"role": "user", "content": name}]})["messages"][-1].text


def langchain(name: str) -> Any:
    """Its assistant has a name."""
    from langchain_openai import ChatOpenAI

    return _langchain(ChatOpenAI(model="m"), name)


def langchain_gemini(name: str) -> Any:
    """It drops the ids of calls."""
    from langchain_google_genai import ChatGoogleGenerativeAI

    return _langchain(ChatGoogleGenerativeAI(model="gemini-m", base_url=GEMINI, api_key=KEY), name)


def agno(name: str) -> Any:
    """It drops the ids of calls."""
    from agno.agent import Agent
    from agno.models.google import Gemini
    from google.genai.types import HttpOptions

    model = Gemini(id="gemini-m", api_key=KEY, client_params={"http_options": HttpOptions(base_url=GEMINI)})
    return Agent(model=model, tools=[sunny], instructions="You help.", telemetry=False).run(name).content


def agno_claude(name: str) -> Any:
    """Its client takes one of Anthropic's two keys: with both in the environment it makes no call."""
    from agno.agent import Agent
    from agno.models.anthropic import Claude

    return (
        Agent(model=Claude(id="m"), tools=[sunny], instructions="You help.", telemetry=False)
        .run(name)
        .content
    )


async def openai_agents(name: str) -> Any:
    """It exports a run to its maker unless it is told not to: what it would export is the answer here."""
    from agents import Agent, Runner, function_tool
    from agents.tracing import get_trace_provider

    answer = await Runner.run(Agent(name="boss", model="m", tools=[function_tool(sunny)]), name)
    assert get_trace_provider().create_trace("a trace").export() is None, "traces are exported"
    return answer.final_output


def smolagents(name: str) -> Any:
    """It tells calls and their results as text."""
    from smolagents import OpenAIServerModel, Tool, ToolCallingAgent

    class Sunny(Tool):  # type: ignore[misc]
        name = "sunny"
        description = "The weather."
        inputs = {"city": {"type": "string", "description": "Where."}}  # noqa: RUF012
        output_type = "string"

        def forward(self, city: str) -> str:
            return f"sun in {city}"

    model = OpenAIServerModel(
        "m", api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"]
    )
    return ToolCallingAgent(tools=[Sunny()], model=model, verbosity_level=0).run(name)


FRAMEWORKS: dict[str, Any] = {
    each.__name__: each
    for each in (langchain, langchain_gemini, agno, agno_claude, openai_agents, smolagents)
}


async def agent(name: str) -> Any:
    said = FRAMEWORKS[sys.argv[1]](name)
    return {"text": await said if inspect.isawaitable(said) else said}


run({"agent": agent})
