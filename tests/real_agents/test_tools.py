"""A tool of the program, called by real agents over MCP: it runs here, and the model sees its result."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from triocept import Exchange, ToolCall, agents, serve_endpoint

pytest.importorskip("mcp", reason="the package 'mcp' serves the tools")

PROMPT = "What is the weather in Paris? Use the tool."
CI = ("claude_code", "codex")
AGENTS = [
    pytest.param(agent, marks=pytest.mark.ci if agent in CI else ())
    for agent in (*CI, "opencode", "kilo", "gemini_cli", "qwen_code")
]


class Model:
    """Calls the tool `weather` in the first answer, whatever the agent calls it, and then says what it was told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if exchange.conversation.kind == "side":
            await exchange.respond("A title")
        elif request.tool_results and "frogs" in request.tool_results[-1].text:
            self.seen.append(request.tool_results[-1].text)
            await exchange.respond(f"They say: {self.seen[-1]}")
        elif names := [tool.name for tool in request.tools if tool.name.endswith("weather")]:
            await exchange.respond(ToolCall.of(names[0], city="Paris"))
        elif "tool_search" in {tool.name for tool in request.tools}:  # qwen-code shows such tools when asked
            await exchange.respond(ToolCall.of("tool_search", query="weather"))
        else:
            await exchange.refuse(404, f"no weather among {[tool.name for tool in request.tools]}")


@pytest.mark.parametrize("agent", AGENTS)
async def test_an_agent_calls_a_tool_of_the_program_and_the_model_sees_its_result(
    agent: str, tmp_path: Path, executable_of: Callable[[str], Path]
) -> None:
    executable = str(executable_of(agent))
    asked: list[str] = []

    async def weather(city: str) -> str:
        """The weather of a city."""
        await trio.lowlevel.checkpoint()
        asked.append(city)
        return f"It is raining frogs in {city}."

    model = Model()
    (tmp_path / "work").mkdir()
    with trio.fail_after(180):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(model, tools=[weather]) as rollout:
            launch = agents.agent(agent)(rollout, tmp_path / "config", PROMPT, executable=executable)
            env = {"HOME": str(tmp_path), **launch.env}
            result = await rollout.run_agent(launch.argv, env=env, cwd=tmp_path / "work")
    print(result.stdout_text[-3000:], result.stderr_text[-3000:], rollout.trace)
    assert result.returncode == 0
    assert asked == ["Paris"]
    assert len(model.seen) == 1
    assert "It is raining frogs in Paris." in model.seen[0]
    assert "It is raining frogs in Paris." in result.stdout_text
    (call,) = rollout.trace.services
    assert (call.name, call.arguments, call.outcome) == ("weather", {"city": "Paris"}, "answered")
    assert call.result == "It is raining frogs in Paris."
