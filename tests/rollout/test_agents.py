"""Agents in a rollout, as a handler's and as a loop; and how the known ones are made ready."""

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.asking import echo
from triocept import RolloutClosed, agents, serve_endpoint

ASK = """
import json, os, sys, urllib.request
for text in sys.argv[1:]:
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode(),
        headers={"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        print(json.load(response)["choices"][0]["message"]["content"], flush=True)
"""


async def test_an_agents_calls_come_as_a_loop_that_ends_with_it() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout() as rollout:
        async with rollout.open_agent([sys.executable, "-c", ASK, "a", "b"]) as agent:
            async for exchange in agent:
                await exchange.respond(f"heard {exchange.request.messages[-1].text}")
            assert agent.returncode == 0
    assert agent.result.stdout_text == "heard a\nheard b\n"
    assert len(rollout.trace) == 2


async def test_an_agent_works_in_the_directory_that_it_is_told() -> None:
    """Opencode believes PWD, not where it is."""
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        here = await rollout.run_agent(["sh", "-c", "echo $PWD; pwd -P"], cwd="/")
        there = await rollout.run_agent([sys.executable, "-c", "import os; print(os.environ['PWD'])"])
    assert here.stdout_text == "/\n/\n"
    assert there.stdout_text.strip() == os.getcwd()


async def test_no_agent_can_be_run_in_a_rollout_that_has_ended() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        await rollout.stop("enough")
        with pytest.raises(RolloutClosed):
            await rollout.run_agent(["true"])


@pytest.mark.parametrize("name", agents.AGENTS)
async def test_each_known_agent_is_made_ready_for_its_rollout(name: str, tmp_path: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, model="my-model") as rollout:
        launch = agents.agent(name.replace("_", "-"))(rollout, tmp_path, "fix it", executable="/x/agent")
    assert launch.argv[0] == "/x/agent"
    assert "fix it" in launch.argv
    assert rollout.api_key not in " ".join(launch.argv), (
        "a command line is for every user of the machine to see"
    )
    assert rollout.api_key not in repr(launch)
    for file in tmp_path.rglob("*.*"):
        if file.is_file():
            assert file.stat().st_mode & 0o077 == 0, "a file with a key is this user's alone"


@pytest.mark.parametrize("name", agents.AGENTS)
async def test_a_known_agents_directory_is_made_and_found_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qwen-code fails where its HOME is not there; and an agent works in another directory than the program."""
    monkeypatch.chdir(tmp_path)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        launch = agents.agent(name)(rollout, Path("not/there"), "fix it")
    assert (tmp_path / "not" / "there").is_dir()
    places = [value for value in [*launch.argv, *launch.env.values()] if value and "there" in value]
    assert places
    assert all(place.startswith(str(tmp_path)) for place in places)


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic_messages"])
async def test_pi_speaks_the_dialect_that_it_is_told(dialect: Any, tmp_path: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        agents.pi(rollout, tmp_path, "x", dialect=dialect)
    provider = json.loads((tmp_path / ".pi/agent/models.json").read_text())["providers"]["triocept"]
    assert provider["baseUrl"] == rollout.base_url(dialect)
    assert provider["api"].replace("completions", "chat").replace("-", "_") == dialect


async def test_llm_has_a_shell_or_the_functions_it_is_given_or_none(tmp_path: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        functions = tmp_path / "llm" / "functions.py"
        assert str(functions) in agents.llm(rollout, tmp_path, "x").argv
        scope: dict[str, Any] = {}
        exec(functions.read_text(), scope)
        assert scope["shell"]("echo out; echo err >&2; exit 3") == "out\nerr\n\n(exit code 3)"
        agents.llm(rollout, tmp_path, "x", functions="def f(): ...")
        assert functions.read_text() == "def f(): ..."
        assert "--functions" not in agents.llm(rollout, tmp_path, "x", functions="").argv


async def test_codex_and_opencode_get_configurations_that_can_be_read(tmp_path: Path) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, model='a "model"') as rollout:
        agents.codex(rollout, tmp_path, "x")
        agents.opencode(rollout, tmp_path, "x", dialect="anthropic_messages")
    config = tomllib.loads((tmp_path / "codex" / "config.toml").read_text())
    assert config["model"] == 'a "model"'
    assert config["model_providers"]["triocept"]["base_url"] == rollout.base_url("openai_responses")
    provider = json.loads((tmp_path / "opencode.json").read_text())["provider"]["triocept"]
    assert provider["options"]["baseURL"] == f"{rollout.base_url('anthropic_messages')}/v1"


def test_an_unknown_agent_is_a_valueerror_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="codex"):
        agents.agent("nobody")


@pytest.mark.parametrize("name", ["claude_code", "codex", "gemini_cli", "kilo", "opencode", "qwen_code"])
async def test_a_launch_that_would_offer_tools_says_that_their_package_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(text: str) -> str:
        return text

    monkeypatch.setitem(sys.modules, "mcp", None)
    make = agents.agent(name)
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(echo, tools=[search]) as rollout:
            with pytest.raises(ModuleNotFoundError, match=r"pip install 'triocept\[mcp\]'"):
                make(rollout, tmp_path, "do it")
        async with endpoint.open_rollout(
            echo
        ) as rollout:  # nothing is missed where there is nothing to offer
            make(rollout, tmp_path, "do it")
