"""Real agents with `keep_home`: the user's own configuration works, and no call goes to the provider that it names."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.real_agents.cases import DONE, PROMPT
from tests.real_agents.test_gates import shell_call
from triocept import ScriptedModel, ToolCall, agents, serve_endpoint
from triocept.handlers import Decision

AGENTS = ("claude_code", "codex", "opencode", "kilo", "gemini_cli", "qwen_code", "copilot")
INSTRUCTIONS = dict(
    zip(
        AGENTS,
        ("CLAUDE", "AGENTS", "AGENTS", "AGENTS", "GEMINI", "QWEN", "copilot-instructions"),
        strict=True,
    )
)
"""Names of the files with the user's instructions."""
NEWER = ("claude_code_newer", "codex_newer", "qwen_code_newer")


def hooks(event: str, command: str) -> dict[str, Any]:
    return {"hooks": {event: [{"matcher": "*", "hooks": [{"type": "command", "command": command}]}]}}


def own_files(agent: str, url: str, hook: str, server: list[str]) -> dict[str, Any]:
    """The files in the user's home: another provider at `url`, a hook, a server for MCP, and instructions."""
    text = "Mention the moose."
    program = {"command": server[0], "args": server[1:]}
    if agent == "claude_code":
        servers = {"hasCompletedOnboarding": True, "mcpServers": {"own": program}}
        settings = hooks("PreToolUse", hook)
        return {
            ".claude.json": servers,
            ".claude/settings.json": settings,
            f".claude/{INSTRUCTIONS[agent]}.md": text,
        }
    if agent == "codex":
        provider = f'model_provider = "own"\n[model_providers.own]\nname = "own"\nbase_url = "{url}/v1"\n'
        config = f"{provider}[mcp_servers.own]\ncommand = {json.dumps(server[0])}\nargs = {json.dumps(server[1:])}\n"
        return {".codex/config.toml": config, f".codex/{INSTRUCTIONS[agent]}.md": text}
    if agent in ("opencode", "kilo"):
        options = {"baseURL": f"{url}/v1", "apiKey": "own"}
        provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"own": {}}}
        config = {
            "$schema": f"https://{'app.kilo' if agent == 'kilo' else 'opencode'}.ai/config.json",
            "model": "own/own",
            "small_model": "own/own",
            "enabled_providers": ["own"],
            "provider": {"own": provider},
            "agent": {name: {"model": "own/own"} for name in ("build", "code", "general")},
            "mcp": {"own": {"type": "local", "command": server}},
        }
        before = f"async () => {{ require('child_process').execSync({json.dumps(hook)}) }}"
        plugin = f"export const Own = async () => ({{'tool.execute.before': {before}}})\n"
        folder = f".config/{agent}"
        return {
            f"{folder}/{agent}.json": config,
            f"{folder}/plugin/own.js": plugin,
            f"{folder}/{INSTRUCTIONS[agent]}.md": text,
            f"{folder}/.bash-permission-migrated": "",  # without it, kilo adds a setting once
        }
    if agent == "gemini_cli":
        own = {"security": {"auth": {"selectedType": "oauth-personal"}}, "model": {"name": "own"}}
        settings = {**own, "mcpServers": {"own": program}, **hooks("BeforeTool", hook)}
        variables = f"GOOGLE_GEMINI_BASE_URL={url}\nGOOGLE_GENAI_USE_VERTEXAI=true\n"
        return {
            ".gemini/settings.json": settings,
            ".gemini/.env": variables,
            f".gemini/{INSTRUCTIONS[agent]}.md": text,
        }
    if agent == "qwen_code":
        model = {"id": "m", "baseUrl": f"{url}/v1", "envKey": "OWN"}
        settings = {
            "$version": 4,
            "security": {"auth": {"selectedType": "openai", "apiKey": "own", "baseUrl": f"{url}/v1"}},
            "model": {"name": "own"},
            "modelProviders": {"openai": [model, {**model, "id": "own"}]},
            "env": {"OWN": "own", "OPENAI_BASE_URL": f"{url}/v1"},
            "mcpServers": {"own": program},
            **hooks("PreToolUse", hook),
        }
        return {".qwen/settings.json": settings, f".qwen/{INSTRUCTIONS[agent]}.md": text}
    provider = {"name": "own", "type": "openai", "baseUrl": f"{url}/v1", "apiKey": "own"}
    return {
        ".copilot/settings.json": {"model": "own"},
        ".copilot/providers.json": {"providers": [provider], "models": [{"id": "own", "provider": "own"}]},
        ".copilot/hooks/own.json": {
            "version": 1,
            "hooks": {"preToolUse": [{"type": "command", "bash": hook}]},
        },
        ".copilot/mcp-config.json": {"mcpServers": {"own": {"type": "local", "tools": ["*"], **program}}},
        f".copilot/{INSTRUCTIONS[agent]}.md": text,
    }


@pytest.mark.slow
@pytest.mark.parametrize("agent", [*AGENTS, *NEWER])
async def test_the_users_configuration_works_and_every_call_comes_to_the_rollout(
    agent: str, tmp_path: Path, executable_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = agent.removesuffix("_newer")
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "COPILOT_HOME"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        files = own_files(known, url, f"touch {tmp_path}/hook", ["touch", f"{tmp_path}/server"])
        texts = {
            home / name: each if isinstance(each, str) else json.dumps(each) for name, each in files.items()
        }
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        gate = None if known in ("codex", "kilo") else {"*": Decision.approve()}
        model = ScriptedModel([shell_call(known, "echo hello >> proof.txt"), DONE])
        async with (
            serve_endpoint() as endpoint,
            endpoint.open_rollout(model, gate=gate, model="m") as rollout,
        ):
            launch = agents.agent(known)(
                rollout, tmp_path / "config", PROMPT, executable=str(executable_of(agent))
            )
            with trio.fail_after(240):
                result = await rollout.run_agent(launch.argv, env=launch.env, cwd=work, keep_home=True)
        print(result.stdout_text[-2000:], result.stderr_text[-2000:], rollout.trace)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert result.returncode == 0
    assert (work / "proof.txt").read_text() == "hello\n"
    assert all("moose" in str(turn.request) for turn in rollout.trace)
    assert len(rollout.trace) == 2
    hook_runs = known != "codex"  # Codex runs a hook only if its user has trusted it
    marks = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert marks == ({"hook", "server"} if hook_runs else {"server"})
    assert [each.kind for each in rollout.trace.services] == (["gate"] if gate else [])
    texts.pop(home / ".claude.json", None)  # Claude Code's own state, too
    assert {path: path.read_text() for path in texts} == texts, "nothing of the user's was changed"


async def test_a_sub_agent_of_qwen_code_with_an_own_provider_calls_the_rollout(
    tmp_path: Path, executable_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    name = "helper"
    head = f"name: {name}\ndescription: helps with any task that it gets\nmodel: vertex-ai:other"
    file = tmp_path / ".qwen" / "agents" / f"{name}.md"
    file.parent.mkdir(parents=True)
    file.write_text(f"---\n{head}\n---\nYou help with any task. Do what you are told.\n")
    call = ToolCall.of("agent", description="help", prompt="do it", subagent_type=name)
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(ScriptedModel([call, DONE, DONE])) as rollout:
            launch = agents.qwen_code(
                rollout, tmp_path / "config", PROMPT, executable=str(executable_of("qwen_code"))
            )
            result = await rollout.run_agent(launch.argv, env=launch.env, cwd=tmp_path, keep_home=True)
    assert result.returncode == 0
    assert [(turn.dialect, turn.request.model == "other") for turn in rollout.trace] == [
        ("openai_chat", False),
        ("gemini", True),
        ("openai_chat", False),
    ]


@pytest.mark.parametrize(
    ("sub_agent", "settings"),
    [
        ("helper", {"fastModel": "qwen-oauth:coder-model"}),
        ("Explore", {"agents": {"builtin": {"exploreModel": "coder-model"}}}),
    ],
)
async def test_no_setting_of_qwen_code_makes_a_sub_agent_call_qwens_own_service(
    sub_agent: str,
    settings: dict[str, Any],
    tmp_path: Path,
    executable_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    call = ToolCall.of("agent", description="help", prompt="do it", subagent_type=sub_agent)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1"
        login = {"access_token": "a", "refresh_token": "b", "token_type": "Bearer", "expiry_date": 10**13}
        name = "helper"
        head = f"name: {name}\ndescription: helps with any task\nmodel: fast"
        files = {
            "settings.json": json.dumps({"$version": 4, **settings}),
            "oauth_creds.json": json.dumps({**login, "resource_url": url}),
            f"agents/{name}.md": f"---\n{head}\n---\nHelp with any task.\n",
        }
        for name, text in files.items():
            (tmp_path / ".qwen" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / ".qwen" / name).write_text(text)
        model = ScriptedModel([call, *[DONE] * 4])
        async with serve_endpoint() as endpoint, endpoint.open_rollout(model, model="m") as rollout:
            launch = agents.qwen_code(
                rollout, tmp_path / "config", PROMPT, executable=str(executable_of("qwen_code_newer"))
            )
            with trio.fail_after(60):
                await rollout.run_agent(launch.argv, env=launch.env, cwd=tmp_path, keep_home=True)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert {turn.request.model for turn in rollout.trace} == {"m"}
    assert len(rollout.trace) > 2
