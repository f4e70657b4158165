"""The JSON formats in which agents' hooks send questions to the gate, and get its answers.

The neutral format is for agents and programs that have no format of their own::

    POST …/gate         {"tool": "bash", "arguments": {…}, "id": "call_1"}
    answer              {"decision": "allow"}, {"decision": "allow", "arguments": {…}} or
                        {"decision": "deny", "reason": "…"}

    POST …/gate         {"tool": "bash", "arguments": {…}, "id": "call_1", "result": …}, after the tool ran
    answer              {}, or {"result": …}, which replaces the result

In a question after the tool ran, the arguments may be the original arguments or the changed arguments. If the status of
the answer is not 200, the agent must not run the tool. The format of each agent has its own path, `…/gate/NAME`. The
formats were taken from the agent versions that the package `agents` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import msgspec

from .._canonical.content import Json, ToolCall
from .._canonical.form import arguments_value
from ..errors import DialectError


class Question(msgspec.Struct, frozen=True):
    """A question of an agent's hook about a tool call, before or after the tool runs."""

    tool: str
    arguments: Json
    id: str = ""
    """Id of the tool call. Empty if the agent's hooks send no ids."""
    after: bool = False
    """True if the question was sent after the tool ran."""
    result: Json = None


class Answer(msgspec.Struct, frozen=True):
    """The gate's answer to a question."""

    allowed: bool = False
    reason: str = ""
    arguments: Json = None
    """The changed arguments, as the model would have written them. None if they are unchanged."""
    result: Json = None
    """The changed result. None if the result is unchanged."""


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """The hook of one agent: its JSON format, and its capabilities."""

    agent: str
    read: Callable[[Json], Question]
    """Function that returns the question in a JSON document. The function raises msgspec.ValidationError if the
    document has another format."""
    render: Callable[[Question, Answer], Json]
    """Function that returns an answer as a JSON document. The function raises TypeError if the format cannot express
    the answer."""
    modifies: Callable[[ToolCall, Json], bool] = lambda call, arguments: True
    """Function `(call, arguments) -> bool`: returns True if the hook can replace the call's arguments by
    `arguments`."""
    replaces: bool = True
    """True if the hook can replace the result of a tool."""
    content: Callable[[str, Json], tuple[str, Json]] = lambda name, arguments: (name, arguments)
    """Function that takes the name and the arguments of a tool call. The function returns the name and the arguments
    that the agent writes in a question about this call."""
    ids: bool = True
    """True if the hook sends the ids of tool calls."""
    own_errors: str | None = None
    """Regular expression for results that the agent makes itself, without running a tool. None if their texts are
    unknown."""
    unasked: frozenset[str] = frozenset()
    """Names of the tools for which the agent runs no hook."""
    variables: Mapping[str, str] = {}
    """Environment variables that can disable the hook, each with a value that leaves the hook enabled."""
    options: Mapping[str, int] = {}
    """Command-line options that can disable the hook, each with the number of times that the agent's launch sets it."""
    settings: Mapping[str, Mapping[str, Json]] = {}
    """Settings that can disable the hook, by the file that contains them: in the working directory, or the
    administrator's. For each setting: its value if the hook is enabled; `{}` stands for any object."""
    reads_repository: bool = False
    """True if the agent also reads these settings in the parents of the working directory, up to the root of its git
    repository."""

    def question(self, document: Json) -> Question:
        try:
            return self.read(document)
        except msgspec.ValidationError as exc:
            raise DialectError(f"the body is not a question of the hook of {self.agent}: {exc}") from exc


class _Neutral(msgspec.Struct):
    tool: str
    arguments: Json
    id: str | None = None
    result: Json = msgspec.UNSET


def _read_neutral(document: Json) -> Question:
    form = msgspec.convert(document, _Neutral)
    after = form.result is not msgspec.UNSET
    return Question(form.tool, form.arguments, form.id or "", after, form.result if after else None)


def _render_neutral(question: Question, answer: Answer) -> Json:
    if question.after:
        return {} if answer.result is None else {"result": answer.result}
    if not answer.allowed:
        return {"decision": "deny", "reason": answer.reason}
    changed = {} if answer.arguments is None else {"arguments": answer.arguments}
    return {"decision": "allow", **changed}


class _Event(msgspec.Struct):
    """A question in Claude Code's JSON format. Hooks of other agents also use this format."""

    hook_event_name: Literal["PreToolUse", "BeforeTool", "PostToolUse", "AfterTool"]
    tool_name: str
    tool_input: Json
    tool_use_id: str | None = None
    tool_call_id: str | None = None
    """Id of the call as the model has written it, which qwen-code sends in this field; its `tool_use_id` is a different
    id. qwen-code 0.15 does not send this field."""
    tool_response: Json = None


def _read_event(document: Json, identity: str = "tool_use_id") -> Question:
    event = msgspec.convert(document, _Event)
    after = event.hook_event_name in ("PostToolUse", "AfterTool")
    return Question(
        event.tool_name, event.tool_input, getattr(event, identity) or "", after, event.tool_response
    )


def _render_claude(question: Question, answer: Answer) -> Json:
    """Return an answer in the JSON format of Claude Code.

    If the answer allows the call, the JSON contains no decision, so that the user's own permissions still apply.
    """
    if question.after:
        if answer.result is None:
            return {}
        output = _in_shape(answer.result, question.result)
        return {"hookSpecificOutput": {"hookEventName": "PostToolUse", "updatedToolOutput": output}}
    if not answer.allowed:
        decision = {"permissionDecision": "deny", "permissionDecisionReason": answer.reason}
    elif answer.arguments is None:
        return {}
    else:
        decision = {"permissionDecision": "allow", "updatedInput": answer.arguments}
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **decision}}


def _in_shape(result: Json, shape: Json) -> Json:
    """Return `result` converted to the JSON structure of `shape`, the tool's own result.

    Claude Code ignores results with another structure.
    """
    if isinstance(result, str) and isinstance(shape, dict):
        if "stdout" not in shape:
            raise TypeError(
                f"a text cannot replace the result of this tool: the function of Gate(after=…) must return an object "
                f"with the fields {', '.join(shape)}"
            )
        return {**shape, "stdout": result, "stderr": ""}
    if type(result) is not type(shape):
        text = (
            f"a {type(result).__name__} cannot replace the result of this tool: the function of Gate(after=…) must "
            f"return a {type(shape).__name__}"
        )
        raise TypeError(text)
    return result


def _render_codex(question: Question, answer: Answer) -> Json:
    """Return an answer in the JSON format of Codex.

    Codex's hooks name the shell tool `Bash`, with the argument `command`. The model names it `exec_command`, with the
    argument `cmd`.
    """
    if question.after:
        return {} if answer.result is None else {"decision": "block", "reason": _text(answer.result)}
    changed = answer.arguments
    if changed is not None:
        given = question.arguments if isinstance(question.arguments, dict) else {}
        changed = {**given, "command": changed["cmd"]}
    return _render_claude(question, msgspec.structs.replace(answer, arguments=changed))


def _modifies_codex(call: ToolCall, arguments: Json) -> bool:
    """Return True if `call` runs a shell command, and `arguments` would change only this command."""
    own = arguments_value(call.arguments)
    shell = isinstance(own, dict) and "cmd" in own and isinstance(arguments, dict) and "cmd" in arguments
    return shell and {**own, "cmd": ""} == {**arguments, "cmd": ""}


def _content_codex(name: str, arguments: Json) -> tuple[str, Json]:
    if isinstance(arguments, dict) and "cmd" in arguments:
        return "Bash", {"command": arguments["cmd"]}
    return name, {"command": arguments} if isinstance(arguments, str) else arguments


def _text(result: Json) -> str:
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()


class _Copilot(msgspec.Struct, rename="camel"):
    tool_name: str
    tool_args: Json
    """The tool's arguments: a JSON value, or a text that contains JSON."""
    tool_result: dict[str, Json] | msgspec.UnsetType | None = msgspec.UNSET


def _read_copilot(document: Json) -> Question:
    form = msgspec.convert(document, _Copilot)
    arguments = arguments_value(form.tool_args) if isinstance(form.tool_args, str) else form.tool_args
    after = form.tool_result is not msgspec.UNSET
    result = (form.tool_result or {}).get("textResultForLlm")
    return Question(form.tool_name, arguments, "", after, result)


def _render_copilot(question: Question, answer: Answer) -> Json:
    if question.after:
        changed = {"textResultForLlm": _text(answer.result), "resultType": "success"}
        return {} if answer.result is None else {"modifiedResult": changed}
    if not answer.allowed:
        return {"permissionDecision": "deny", "permissionDecisionReason": answer.reason}
    return (
        {} if answer.arguments is None else {"permissionDecision": "allow", "modifiedArgs": answer.arguments}
    )


def _render_gemini(question: Question, answer: Answer) -> Json:
    if question.after:
        return {} if answer.result is None else {"decision": "deny", "reason": _text(answer.result)}
    if not answer.allowed:
        return {"decision": "deny", "reason": answer.reason}
    return {} if answer.arguments is None else {"hookSpecificOutput": {"tool_input": answer.arguments}}


NEUTRAL = Hook(agent="this agent", read=_read_neutral, render=_render_neutral)
CLAUDE_CODE = Hook(
    agent="Claude Code",
    read=_read_event,
    render=_render_claude,
    own_errors="<tool_use_error>|The user doesn't want to ",
    variables={"CLAUDE_CODE_SIMPLE": "0", "CLAUDE_CODE_SAFE_MODE": "0"},
    options={"--bare": 0, "--safe-mode": 0, "--settings": 1},  # the last --settings replaces the others
    settings={
        "/etc/claude-code/managed-settings.json": {"disableAllHooks": False, "allowManagedHooksOnly": False}
    },
)
CODEX = Hook(
    agent="Codex",
    read=_read_event,
    render=_render_codex,
    modifies=_modifies_codex,
    content=_content_codex,
    own_errors=r"unsupported call: |failed to parse function arguments: |aborted\Z",
    unasked=frozenset({"write_stdin"}),
    options={"features": 0, "features.hooks": 1, "features.codex_hooks": 0, "--disable": 0},
    settings={
        f"/etc/codex/{name}.toml": {
            "features.hooks": True,
            "features.codex_hooks": True,
            "allow_managed_hooks_only": False,
        }
        for name in ("requirements", "managed_config")
    },
)
OPENCODE = Hook(
    agent="opencode",
    read=_read_neutral,
    render=_render_neutral,
    variables={"OPENCODE_PURE": "0"},
    options={"--pure": 0},
)
GEMINI_CLI = Hook(
    agent="gemini-cli",
    read=_read_event,
    render=_render_gemini,
    ids=False,
    variables={"GEMINI_RESTRICTED_MODE": "false"},
    settings={
        f"{folder}/settings.json": {"hooksConfig.enabled": True, "hooks": {}}
        for folder in (".gemini", "/etc/gemini-cli")
    },
)
QWEN_CODE = Hook(
    agent="qwen-code",
    read=partial(_read_event, identity="tool_call_id"),
    render=_render_claude,
    ids=False,
    modifies=lambda call, arguments: False,
    own_errors=r'Tool "[^"]*" (?:not found|is unavailable)|params[/ ]|Qwen Code requires permission to use "',
    replaces=False,
    variables={"QWEN_CODE_SIMPLE": "0", "QWEN_CODE_SAFE_MODE": "0"},
    options={"--bare": 0, "--safe-mode": 0, "--safeMode": 0},
)
COPILOT = Hook(
    agent="Copilot",
    read=_read_copilot,
    render=_render_copilot,
    ids=False,
    settings={
        f"{folder}/{name}.json": {"disableAllHooks": False}
        for folder in (".github/copilot", ".claude")
        for name in ("settings", "settings.local")
    },
    reads_repository=True,
)
HOOKS: Mapping[str, Hook] = {
    "claude_code": CLAUDE_CODE,
    "codex": CODEX,
    "copilot": COPILOT,
    "gemini_cli": GEMINI_CLI,
    "opencode": OPENCODE,
    "qwen_code": QWEN_CODE,
}
"""The hooks of the agents, by the name in the path of their questions."""
