"""Real agents whose own hooks ask the gate: what is rejected does not run, and what runs unasked is noticed."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.real_agents.cases import _CALLS, DONE, PROMPT
from triocept import AgentResult, Exchange, Response, ScriptedModel, ToolCall, Trace, agents, serve_endpoint
from triocept.agents import Launch, _hooks
from triocept.errors import GateBypassed
from triocept.handlers import Decision, Gate, approve
from triocept.types import Json

CI = ("claude_code", "codex")
NEWER = ("claude_code_newer", "codex_newer", "qwen_code_newer")
AGENTS = [
    pytest.param(agent, marks=pytest.mark.ci if agent in CI else ())
    for agent in (*CI, "opencode", "gemini_cli", "qwen_code", "copilot", *NEWER)
]
every_agent = pytest.mark.parametrize("agent", AGENTS)


def shell_call(agent: str, command: str) -> ToolCall:
    """The call of this agent's shell tool."""
    call = _CALLS[agent.removesuffix("_newer")]
    arguments = {**call.parsed(), "cmd" if "cmd" in call.parsed() else "command": command}
    return ToolCall.of(call.name, **arguments)


@dataclass
class Ran:
    result: AgentResult
    trace: Trace
    work: Path

    @property
    def texts(self) -> list[str]:
        """The results that the model gets in its second turn."""
        return [result.text for result in self.trace[1].request.tool_results]

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.work.iterdir() if path.is_file()}


class Stage:
    """Runs agents with a gate."""

    def __init__(self, folder: Path, executable_of: Callable[[str], Path]) -> None:
        self._folder, self._executable_of = folder, executable_of
        self.work = folder / "work"
        self.config = folder / "config"
        self.work.mkdir()

    async def run(
        self,
        agent: str,
        handler: Any,
        *,
        change: Callable[[Launch], object] = lambda launch: None,
        **options: Any,
    ) -> Ran:
        executable = str(self._executable_of(agent))
        with trio.fail_after(240):
            async with serve_endpoint() as endpoint, endpoint.open_rollout(handler, **options) as rollout:
                prepare = agents.agent(agent.removesuffix("_newer"))
                launch = prepare(rollout, self.config, PROMPT, executable=executable)
                change(launch)
                env = {"HOME": str(self._folder), **launch.env}
                result = await rollout.run_agent(launch.argv, env=env, cwd=self.work)
        print(result.stdout_text[-2000:], result.stderr_text[-2000:], rollout.trace, rollout.trace.services)
        return Ran(result, rollout.trace, self.work)


@pytest.fixture
def gate_stage(tmp_path: Path, executable_of: Callable[[str], Path]) -> Stage:
    return Stage(tmp_path, executable_of)


@every_agent
async def test_a_rejected_call_does_not_run_and_the_model_gets_the_reason(
    agent: str, gate_stage: Stage
) -> None:
    call = shell_call(agent, "echo hello > proof.txt")
    ran = await gate_stage.run(
        agent, approve(ScriptedModel([call, DONE]), {"*": Decision.reject('not on a "Sunday"')})
    )
    assert ran.result.returncode == 0
    assert ran.files == set()
    (text,) = ran.texts
    assert 'not on a "Sunday"' in text
    assert [each.parsed() for each in ran.trace[0].response.tool_calls] == [call.parsed()], (
        "as the model has said it"
    )
    assert not ran.trace[0].drafts
    assert [(each.kind, each.way) for each in ran.trace[0].decisions] == [("reject", "gate")]
    assert [each.kind for each in ran.trace.services] == ["gate"]


@every_agent
async def test_a_modified_call_runs_as_modified(agent: str, gate_stage: Stage) -> None:
    other = shell_call(agent, "echo other > other.txt")
    model = ScriptedModel([shell_call(agent, "echo hello > proof.txt"), DONE])
    ran = await gate_stage.run(agent, approve(model, {"*": Decision.modify(other.parsed())}))
    assert ran.result.returncode == 0
    assert ran.files == {"other.txt"}
    (decided,) = ran.trace[0].decisions
    assert decided.way == ("answer" if agent.startswith("qwen") else "gate")


@every_agent
async def test_the_gate_decides_alone_and_replaces_results(agent: str, gate_stage: Stage) -> None:
    shown: list[Json] = []

    def after(call: ToolCall, result: Json, exchange: Exchange) -> str:
        shown.append(result)
        return "a shorter text"

    model = ScriptedModel([shell_call(agent, "echo hello > proof.txt"), DONE])
    gate = Gate({"*": Decision.approve()}, after=after)
    if agent.startswith("qwen"):
        with pytest.raises(ValueError, match="qwen-code cannot replace results"):
            await gate_stage.run(agent, model, gate=gate)
        return
    ran = await gate_stage.run(agent, model, gate=gate)
    assert ran.files == {"proof.txt"}
    assert len(shown) == 1
    assert ran.texts == ["a shorter text"]


@pytest.mark.slow
@every_agent
async def test_twenty_parallel_calls_are_decided_in_any_order(agent: str, gate_stage: Stage) -> None:
    draw = random.Random(agent)
    rejected = set(draw.sample(range(20), 5))

    async def policy(call: ToolCall, exchange: Exchange) -> Decision:
        await trio.sleep(draw.random())
        number = int(call.arguments.partition("> f")[2].partition('"')[0])
        return Decision.reject(f"no number {number}!") if number in rejected else Decision.approve()

    calls = [shell_call(agent, f"echo x > f{number}") for number in range(20)]
    ran = await gate_stage.run(agent, approve(ScriptedModel([Response.of(*calls), DONE]), policy))
    assert ran.files == {f"f{number}" for number in set(range(20)) - rejected}
    assert len(ran.texts) == 20
    assert {number for number, text in enumerate(ran.texts) if f"no number {number}!" in text} == rejected
    assert len(ran.trace.services) == 20


@pytest.mark.slow
@every_agent
async def test_an_unknown_tool_and_broken_arguments_are_no_bypass(agent: str, gate_stage: Stage) -> None:
    shell = shell_call(agent, "true")
    calls = [ToolCall.of("Nope", a=1), ToolCall(shell.name, '{"comm'), ToolCall.of(shell.name, wrong=1)]
    model = approve(ScriptedModel([*calls, DONE]), {"*": Decision.approve()})
    ran = await gate_stage.run(agent, model, gate=Gate(on_bypass="end"))
    assert ran.result.returncode == 0
    assert not [each for each in ran.trace.services if each.outcome != "answered"]


HOOKS: Mapping[str, str] = {
    "crashes": "raise SystemExit(1)",
    "prints nonsense": "print('{\"hello')",
    "prints nothing": "",
    "hangs": "import time; time.sleep(60)",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HOOKS)
@pytest.mark.parametrize(
    "agent", ["codex", "gemini_cli", "qwen_code", "copilot", "codex_newer", "qwen_code_newer"]
)
async def test_a_hook_that_fails_is_noticed(
    agent: str, what: str, gate_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an agent that runs a command."""
    monkeypatch.setattr(_hooks, "SECONDS", 3)
    model = approve(
        ScriptedModel([shell_call(agent, "echo hello > proof.txt"), DONE]), {"*": Decision.approve()}
    )

    def change(launch: Launch) -> None:
        (gate_stage.config / "gate.py").write_text(HOOKS[what])

    with pytest.raises(GateBypassed, match="never asked"):
        await gate_stage.run(agent, model, change=change, gate=Gate(on_bypass="end"))


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["claude_code", "claude_code_newer"])
async def test_a_hook_of_claude_code_that_is_missing_is_noticed(agent: str, gate_stage: Stage) -> None:
    model = approve(
        ScriptedModel([shell_call(agent, "echo hello > proof.txt"), DONE]), {"*": Decision.approve()}
    )

    def change(launch: Launch) -> None:
        (gate_stage.config / "gate.json").write_text("{}")

    with pytest.raises(GateBypassed, match="never asked"):
        await gate_stage.run(agent, model, change=change)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["claude_code", "claude_code_newer"])
async def test_a_question_of_claude_code_that_gets_no_answer_is_noticed(
    agent: str, gate_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hooks, "SECONDS", 3)

    async def hang(call: ToolCall, exchange: Exchange) -> Decision:
        await trio.sleep_forever()
        raise AssertionError

    model = ScriptedModel([shell_call(agent, "echo hello > proof.txt"), DONE])
    with pytest.raises(GateBypassed, match="not answered"):
        await gate_stage.run(agent, model, gate=hang)
    assert (gate_stage.work / "proof.txt").exists() == (agent == "claude_code"), (
        "the newer one blocks the tool"
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["throw new Error('no')", "syntax error"])
async def test_a_plugin_of_opencode_that_fails_is_noticed(what: str, gate_stage: Stage) -> None:
    model = approve(
        ScriptedModel([shell_call("opencode", "echo hello > proof.txt"), DONE]), {"*": Decision.approve()}
    )

    def change(launch: Launch) -> None:
        (gate_stage.config / "gate.js").write_text(what)

    with pytest.raises(GateBypassed, match="never asked"):
        await gate_stage.run("opencode", model, change=change, gate=Gate(on_bypass="end"))


@every_agent
async def test_the_users_own_hooks_run_too(agent: str, gate_stage: Stage) -> None:
    """Of the project, as far as the agent takes them from there."""
    mark = f"touch {gate_stage.work}/own"
    event = {"hooks": [{"type": "command", "command": mark}]}
    own: dict[str, tuple[str, Json]] = {
        "claude_code": (".claude/settings.json", {"hooks": {"PreToolUse": [{"matcher": "*", **event}]}}),
        "qwen_code": (".qwen/settings.json", {"hooks": {"PreToolUse": [{"matcher": "*", **event}]}}),
    }
    place = own.get(agent.removesuffix("_newer"))
    if place is None:
        pytest.skip("it takes no hooks of a project without its user's trust")
    path = gate_stage.work / place[0]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(place[1]))
    model = ScriptedModel([shell_call(agent, "echo hello > proof.txt"), DONE])
    ran = await gate_stage.run(agent, approve(model, {"*": Decision.approve()}))
    assert ran.files == {"own", "proof.txt"}
    assert len(ran.trace.services) == 1


OFF: Any = {"disableAllHooks": True}
DISABLED = [
    (
        "claude_code",
        {".claude/settings.json": {**OFF, "env": {"CLAUDE_CODE_SIMPLE": "1"}}},
        "CLAUDE_CODE_SIMPLE",
    ),
    (
        "claude_code_newer",
        {".claude/settings.json": {"env": {"CLAUDE_CODE_SAFE_MODE": "1"}}},
        "CLAUDE_CODE_SAFE_MODE",
    ),
    ("codex_newer", {".codex/config.toml": "[features]\nhooks = false\n"}, "NO_VARIABLE"),
    ("opencode", {".env": "OPENCODE_PURE=1\n", "opencode.json": {"plugin": []}}, "OPENCODE_PURE"),
    ("gemini_cli", {".gemini/.env": "GEMINI_RESTRICTED_MODE=true\n"}, "GEMINI_RESTRICTED_MODE"),
    ("qwen_code", {".qwen/settings.json": {**OFF, "env": {"QWEN_CODE_SIMPLE": "1"}}}, "QWEN_CODE_SIMPLE"),
    ("qwen_code_newer", {".qwen/.env": "QWEN_CODE_SAFE_MODE=1\n"}, "QWEN_CODE_SAFE_MODE"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "files", "variable"), DISABLED, ids=[each[0] for each in DISABLED])
async def test_no_file_of_the_project_and_no_variable_disables_the_hook(
    agent: str, files: Mapping[str, Any], variable: str, gate_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (gate_stage.work / name).parent.mkdir(exist_ok=True)
        (gate_stage.work / name).write_text(content if isinstance(content, str) else json.dumps(content))
    before = {path.name for path in gate_stage.work.iterdir() if path.is_file()}

    def trust(launch: Launch) -> None:
        if agent.startswith("codex"):
            with (gate_stage.config / "codex" / "config.toml").open("a") as config:
                config.write(f'[projects."{gate_stage.work}"]\ntrust_level = "trusted"\n')

    model = [shell_call(agent, "echo hello > proof.txt"), DONE]
    gate = Gate({"*": Decision.reject("not on a Sunday")}, on_bypass="end")
    ran = await gate_stage.run(agent, ScriptedModel(model), gate=gate, change=trust)
    assert (ran.files, len(ran.trace.services)) == (before, 1)
    monkeypatch.setenv(variable, "true")
    again = await gate_stage.run(agent, ScriptedModel(model), gate=gate, change=trust)
    assert (again.files, len(again.trace.services)) == (before, 1)
