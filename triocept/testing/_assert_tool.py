"""Check that the application has carried out a tool call of the model: a later request contains the call's result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

from .._canonical.content import Json, ToolCall, ToolResult
from .._canonical.request import Request
from .._trace.turn import Turn
from ..errors import DialectError
from ._wildcards import matches

_repr = Repr()
_repr.maxstring = _repr.maxother = 200
_repr.maxdict = _repr.maxlist = 12
_short = _repr.repr


def carried_out(
    calls: Sequence[Request], turns: Sequence[Turn], name: str, arguments: dict[str, Any]
) -> ToolResult:
    """Return the result of the first call of the tool `name` whose arguments include `arguments`.

    If no such call has a result, raise an AssertionError that lists the existing tool calls.
    """
    done = list(_carried_out(calls))
    for call, result in done:
        if call.name != name:
            continue
        given = _arguments(call)
        if not isinstance(given, dict):
            fits = not arguments
        else:
            fits = all(key in given and matches(value, given[key]) for key, value in arguments.items())
        if fits:
            return result
    raise AssertionError("\n".join(_report(calls, turns, done, name, arguments)))


def _carried_out(calls: Sequence[Request]) -> Iterator[tuple[ToolCall, ToolResult]]:
    """Yield, once and in order, each tool call whose result is in a request, together with this result."""
    seen: set[tuple[str, str]] = set()
    for request in calls:
        asked: dict[str, ToolCall] = {}
        for message in request.messages:
            asked.update((call.id, call) for call in message.tool_calls)
            for result in message.tool_results:
                call = asked.get(result.id)
                if call is not None and (call.id, call.arguments) not in seen:
                    seen.add((call.id, call.arguments))
                    yield call, result


def _arguments(call: ToolCall) -> Json:
    try:
        return call.parsed()
    except DialectError:
        return call.arguments


def _report(
    calls: Sequence[Request],
    turns: Sequence[Turn],
    done: Sequence[tuple[ToolCall, ToolResult]],
    name: str,
    arguments: dict[str, Any],
) -> Iterator[str]:
    wanted = f"{name}({', '.join(f'{key}={_short(value)}' for key, value in arguments.items())})"
    yield f"no call of the application contains a tool result of {wanted}"
    if done:
        yield "the calls contain results of:"
        yield from (f"  {_shown(call)} -> {_short(result.text)}" for call, result in done)
    known = {(call.id, call.name) for call, _ in done}
    parts = [part for turn in turns if turn.response is not None for part in turn.response.content]
    made = [part for part in parts if isinstance(part, ToolCall)]
    open_calls = [call for call in made if (call.id, call.name) not in known]
    if open_calls:
        yield "the model called these tools, but no call of the application contains their results:"
        yield from (f"  {_shown(call)}" for call in open_calls)
    if not done and not open_calls:
        yield f"the model called no tool, in {len(calls)} {'call' if len(calls) == 1 else 'calls'}"
    offered = list(dict.fromkeys(tool.name for request in calls for tool in request.tools))
    if name not in offered:
        near = get_close_matches(name, offered, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        yield f"the application offers {', '.join(offered) or 'no tools'}{hint}"


def _shown(call: ToolCall) -> str:
    arguments = _arguments(call)
    if not isinstance(arguments, dict):
        return f"{call.name}({_short(arguments)})"
    return f"{call.name}({', '.join(f'{key}={_short(value)}' for key, value in arguments.items())})"
