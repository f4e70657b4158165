"""The table of the agents: how each is made ready, where it comes from, and what its model says.

`version` is the one that was tested, and that is installed. Codex speaks responses over POST, over a websocket, over
POST after its websocket was answered 426, and by its built-in provider, which tries a websocket.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import pytest

from tests.packages import NPM_PINS
from triocept import ToolCall, agents

PROMPT = "Write hello into proof.txt with a shell command."
COMMAND = "echo hello >> proof.txt"  # appends: what runs twice is seen
DONE = "All done."

Reply: TypeAlias = "str | ToolCall"


@dataclass(frozen=True)
class Source:
    """Where an agent comes from."""

    registry: Literal["npm", "pip"]
    package: str
    command: str
    version: str
    below_python: tuple[int, int] | None = None
    """The first Python that its package does not take."""
    node: str | None = None
    """The version of Node, from the npm registry, that it is run with; None: this machine's."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One agent in one dialect."""

    agent: str
    """Its name in `triocept.agents`."""
    speaks: str
    """Its dialect."""
    replies: tuple[Reply, ...]
    """What its model says, main call by main call: its exact turns."""
    options: dict[str, Any]
    """What its launch is given beside rollout, directory and prompt."""
    endpoint: dict[str, Any]
    """How its endpoint is opened."""
    ci: bool = False
    """Whether the test command runs it."""

    @property
    def name(self) -> str:
        options = [str(value) for value in self.options.values() if value is not True]
        flags = [name for name, value in self.options.items() if value is True]
        flags += [f"no_{name}" for name, value in self.endpoint.items() if value is False]
        return "-".join([self.agent, *options, *flags])

    @property
    def prepare(self) -> Callable[..., agents.Launch]:
        return partial(agents.agent(self.agent), **self.options)


SOURCES = {
    "claude_code": Source(
        "npm", "@anthropic-ai/claude-code", "claude", NPM_PINS["@anthropic-ai/claude-code"]
    ),
    "codex": Source("npm", "@openai/codex", "codex", NPM_PINS["@openai/codex"]),
    "opencode": Source("npm", "opencode-ai", "opencode", "1.18.33"),
    "gemini_cli": Source("npm", "@google/gemini-cli", "gemini", "0.61.0"),
    "pi": Source("npm", "@mariozechner/pi-coding-agent", "pi", "0.73.1"),
    "qwen_code": Source("npm", "@qwen-code/qwen-code", "qwen", "0.15.10"),
    "mini_swe_agent": Source("pip", "mini-swe-agent", "mini", "2.4.6"),
    "aider": Source("pip", "aider-chat", "aider", "0.86.2", below_python=(3, 13)),
    "llm": Source("pip", "llm", "llm", "0.36"),
    "kilo": Source("npm", "@kilocode/cli", "kilo", "7.7.7"),
    "cline": Source("npm", "cline", "cline", "3.0.65"),
    "continue_cli": Source("npm", "@continuedev/cli", "cn", "1.5.47"),
    "copilot": Source("npm", "@github/copilot", "copilot", "1.0.102"),
    "kimi_code": Source("npm", "@moonshot-ai/kimi-code", "kimi", "2.1.0", node="24.21.0"),
    "mistral_vibe": Source("pip", "mistral-vibe", "vibe", "3.0.2"),
}

LIBRARIES = {"claude_agent_sdk": Source("pip", "claude-agent-sdk", "python", "0.2.189")}
"""What makes agents, and is none itself: its `command` is the interpreter that has it."""

NEWER = {
    "claude_code_newer": Source("npm", "@anthropic-ai/claude-code", "claude", "2.1.332", node="24.21.0"),
    "codex_newer": Source("npm", "@openai/codex", "codex", "0.171.0", node="24.21.0"),
    "qwen_code_newer": Source("npm", "@qwen-code/qwen-code", "qwen", "0.24.4", node="24.21.0"),
}
"""The versions that npm gives with a newer Node. They do what the versions above do not: Claude Code runs its
sub-agents beside the main conversation, qwen-code names its home relative to the working directory."""

_CALLS = {
    "claude_code": ToolCall.of("Bash", command=COMMAND, description="write the proof"),
    "codex": ToolCall.of("exec_command", cmd=COMMAND),
    "opencode": ToolCall.of("bash", command=COMMAND, description="write the proof"),
    "gemini_cli": ToolCall.of("run_shell_command", command=COMMAND),
    "pi": ToolCall.of("bash", command=COMMAND),
    "qwen_code": ToolCall.of("run_shell_command", command=COMMAND, is_background=False),
    "mini_swe_agent": ToolCall.of("bash", command=COMMAND),
    "llm": ToolCall.of("shell", command=COMMAND),
    "kilo": ToolCall.of("bash", command=COMMAND, description="write the proof"),
    "cline": ToolCall.of("run_commands", commands=[COMMAND]),
    "continue_cli": ToolCall.of("Bash", command=COMMAND),
    "copilot": ToolCall.of("bash", command=COMMAND, description="write the proof"),
    "kimi_code": ToolCall.of("Bash", command=COMMAND),
    "mistral_vibe": ToolCall.of("bash", command=COMMAND),
}
_REPLIES: dict[str, tuple[Reply, ...]] = {
    **{agent: (call, DONE) for agent, call in _CALLS.items()},
    "mini_swe_agent": (
        _CALLS["mini_swe_agent"],
        ToolCall.of("bash", command="echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
    ),
    "aider": ("proof.txt\n```\nhello\n```\n",),  # no tools: a whole file
}


def _case(
    agent: str, speaks: str, *, ci: bool = False, endpoint: dict[str, Any] | None = None, **options: Any
) -> Case:
    replies = _REPLIES[agent]
    return Case(agent=agent, speaks=speaks, replies=replies, options=options, endpoint=endpoint or {}, ci=ci)


_THREE = ("openai_chat", "openai_responses", "anthropic_messages")
CASES = (
    _case("claude_code", "anthropic_messages", ci=True),
    _case("codex", "openai_responses", ci=True),
    _case("codex", "openai_responses", websocket=True, ci=True),
    _case("codex", "openai_responses", websocket=True, endpoint={"websocket": False}),
    _case("codex", "openai_responses", provider="built_in"),
    *(_case("opencode", dialect, dialect=dialect) for dialect in _THREE),
    _case("gemini_cli", "gemini"),
    _case("mini_swe_agent", "openai_chat"),
    *(_case("pi", dialect, dialect=dialect) for dialect in _THREE),
    _case("qwen_code", "openai_chat"),
    _case("aider", "openai_chat"),
    _case("llm", "openai_chat"),
    *(_case("kilo", dialect, dialect=dialect) for dialect in _THREE),
    *(_case("cline", dialect, dialect=dialect) for dialect in _THREE[:2]),
    *(_case("continue_cli", dialect, dialect=dialect) for dialect in (_THREE[0], _THREE[2])),
    *(_case("copilot", dialect, dialect=dialect) for dialect in _THREE),
    _case("copilot", "openai_responses", dialect="openai_responses", websocket=True),
    *(_case("kimi_code", dialect, dialect=dialect) for dialect in _THREE),
    *(_case("mistral_vibe", dialect, dialect=dialect) for dialect in _THREE),
)


def cases(*left_out: str) -> pytest.MarkDecorator:
    """Parametrize a test with every case but those of these agents (or of these names)."""
    chosen = [case for case in CASES if case.name not in left_out and case.agent not in left_out]
    parameters = [
        pytest.param(case, id=case.name, marks=[pytest.mark.ci] if case.ci else []) for case in chosen
    ]
    return pytest.mark.parametrize("case", parameters)
