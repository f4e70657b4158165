"""Find the calls that the agent runs: tool calls, and call items of OpenAI's Responses API.

triocept keeps an item of a type that it does not know, such as `local_shell_call`, as an `Opaque` part. This module
converts such an item to a `ToolCall`. The name of the `ToolCall` is the item's type without `_call`, such as
`local_shell`. The arguments of the `ToolCall` are the item's fields, without ids and status.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .content import Json, Message, Opaque, Part, Text, ToolCall, ToolResult
from .response import ResponsePart

_RUN_BY_AGENTS = frozenset(
    {"local_shell_call", "shell_call", "apply_patch_call", "computer_call", "tool_search_call"}
)
"""Types of items of the Responses API that the client must run. The provider runs all other opaque calls itself."""
ITEMS = frozenset(kind.removesuffix("_call") for kind in _RUN_BY_AGENTS)
"""The names of the calls to which items of the types `_RUN_BY_AGENTS` are converted."""
_OF_ITEM = frozenset({"type", "id", "call_id", "status"})


def call_in(part: object) -> ToolCall | None:
    """Return the call in a part of an answer; None if the part contains no call that the agent runs."""
    if type(part) is ToolCall:
        return part
    if type(part) is not Opaque or not isinstance(raw := part.raw, dict):
        return None
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in _RUN_BY_AGENTS:  # a provider may send a `type` of any kind
        return None
    if raw.get("execution") == "server":  # a search for tools may be the provider's
        return None
    arguments = {name: value for name, value in raw.items() if name not in _OF_ITEM}
    name, text = kind.removesuffix("_call"), msgspec.json.encode(arguments).decode()
    return ToolCall(name, text, _id_in(raw), extra={"item": kind})


def is_item(call: ToolCall) -> bool:
    """Return True if the call was an item of the Responses API, which this module converted to a `ToolCall`."""
    return call.extra is not None and call.extra.get("item") in _RUN_BY_AGENTS


def calls_in(parts: Iterable[object]) -> tuple[ToolCall, ...]:
    return tuple([call for part in parts if (call := call_in(part)) is not None])


def results_in(message: Message) -> tuple[ToolResult, ...]:
    """Return the results of calls in a message, in order. A result item of the Responses API becomes a `ToolResult`."""
    return tuple([result for part in message.content if (result := _result_in(part)) is not None])


def with_arguments(part: ResponsePart, arguments: str) -> ToolCall | Opaque:
    """Return the call in `part` with other arguments.

    If `part` is an item of the Responses API, `arguments` must be JSON.
    """
    if isinstance(part, ToolCall):
        return msgspec.structs.replace(part, arguments=arguments)
    assert isinstance(part, Opaque)
    kept = {name: value for name, value in part.raw.items() if name in _OF_ITEM}
    return Opaque(part.dialect, {**kept, **msgspec.json.decode(arguments)})


def failed_result(part: ResponsePart, text: str) -> ToolResult | Opaque | None:
    """Return a result that reports the failure of the call in `part`, with `text` as the reason.

    Return None if a result of this kind of call, such as a screenshot, cannot report a failure.

    The result of a search for tools has no field for `text`. For such a call, the returned result is an empty list of
    tools.
    """
    if isinstance(part, ToolCall):
        return ToolResult(id=part.id, content=(Text(text),), is_error=True, name=part.name)
    assert isinstance(part, Opaque)
    outcome = {"type": "exit", "exit_code": 1}
    identity = _id_in(part.raw)
    forms: dict[str, dict[str, Json]] = {
        "local_shell_call": {"id": identity, "output": text},
        "shell_call": {"call_id": identity, "output": [{"stdout": "", "stderr": text, "outcome": outcome}]},
        "apply_patch_call": {"call_id": identity, "status": "failed", "output": text},
        "tool_search_call": {
            "type": "tool_search_output",
            "call_id": identity,
            "execution": "client",
            "status": "completed",
            "tools": [],
        },
    }
    kind = part.raw["type"]
    return Opaque(part.dialect, {"type": f"{kind}_output", **forms[kind]}) if kind in forms else None


def _result_in(part: Part) -> ToolResult | None:
    if type(part) is ToolResult:
        return part
    if type(part) is not Opaque or not isinstance(raw := part.raw, dict):
        return None
    kind = raw.get("type")
    if not isinstance(kind, str) or not kind.endswith("_output"):
        return None
    output = raw.get("output")
    text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
    return ToolResult(id=_id_in(raw), content=(Text(text),), is_error=raw.get("status") == "failed")


def _id_in(raw: dict[str, Json]) -> str:
    found = raw.get("call_id") or raw.get("id")
    return found if isinstance(found, str) else ""
