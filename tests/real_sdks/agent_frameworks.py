"""Agents of Python frameworks, unchanged: `python agent_frameworks.py langchain|langchain_gemini|agno|smolagents`.

Each runs one tool and answers. Each tells the model's first answer in its own way when it sends it back.
"""

from __future__ import annotations

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


FRAMEWORKS = {each.__name__: each for each in (langchain, langchain_gemini, agno, smolagents)}


async def agent(name: str) -> Any:
    return {"text": FRAMEWORKS[sys.argv[1]](name)}


run({"agent": agent})
