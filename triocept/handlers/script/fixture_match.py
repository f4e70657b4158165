"""Conditions of aimock's fixtures on a request, as aimock 1.43.0 defines them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import UNSET

from ..._canonical.content import ToolResult
from ..._canonical.request import Request, offered_names
from .fixture_forms import MatchForm
from .words import shown, system_text


def failures(match: MatchForm, request: Request) -> Iterator[str]:
    """Yield the conditions of a fixture that a request does not meet."""
    for name, look in _LOOKS.items():
        value = getattr(match, name)
        if value is not UNSET and not look(request, value):
            yield f"{name} is {shown(value)}"


def _has_user_message(request: Request, part: str) -> bool:
    return part in request.user_text if part else bool(request.user_text)


def _has_system(request: Request, parts: str | list[str]) -> bool:
    text = system_text(request)
    if isinstance(parts, list):
        return not parts or (bool(text) and all(part in text for part in parts))
    return bool(text) and parts in text


def _newest_result(request: Request) -> ToolResult | None:
    """Return the last message's tool result, or None if it has none."""
    content = request.last.content if request.last is not None else ()
    return content[-1] if content and isinstance(content[-1], ToolResult) else None


def _is_of_call(request: Request, call: str) -> bool:
    result = _newest_result(request)
    return result is not None and result.id == call


def _result_has(request: Request, part: str) -> bool:
    result = _newest_result(request)
    return result is not None and part in result.text


def _is_model(request: Request, model: str) -> bool:
    return re.fullmatch(rf"{re.escape(model)}(-\d.*)?", request.model, re.DOTALL) is not None


def _has_format(request: Request, kind: str) -> bool:
    return (request.output_format.kind if request.output_format is not None else "text") == kind


def _has_result(request: Request, wanted: bool) -> bool:
    """Return `wanted` if a result came since the user's last message; Anthropic's results are in user messages."""
    for message in reversed(request.messages):
        if message.role == "user" and not all(isinstance(part, ToolResult) for part in message.content):
            break
        if message.tool_results:
            return wanted
    return not wanted


_LOOKS: dict[str, Callable[[Request, Any], bool]] = {
    "userMessage": _has_user_message,
    "systemMessage": _has_system,
    "toolCallId": _is_of_call,
    "toolResultContains": _result_has,
    "toolName": lambda request, name: name in offered_names(request),
    "model": _is_model,
    "responseFormat": _has_format,
    "hasToolResult": _has_result,
}


def hides(wide: MatchForm, narrow: MatchForm) -> bool:
    """Return True if a fixture `narrow` after a fixture `wide` is certainly never reached."""
    if isinstance(wide.sequenceIndex, int) or wide.turnIndex != narrow.turnIndex:
        return False
    return all(_follows(getattr(wide, name), getattr(narrow, name), name) for name in _LOOKS)


def _follows(wide: object, narrow: object, name: str) -> bool:
    if wide is UNSET or wide == narrow:
        return True
    parts = name in ("userMessage", "systemMessage", "toolResultContains")
    return parts and isinstance(wide, str) and isinstance(narrow, str) and wide in narrow
