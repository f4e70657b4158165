"""Compare the messages of a model call with the messages that a test expects.

An expected message is a text (of any role), a pair of role and text, a `ToolCall` or a `Message`. In place of a text, a
pattern or any object with its own `__eq__` is allowed. `...` matches any number of messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import ndiff
from types import EllipsisType
from typing import Any, TypeAlias

from msgspec.structs import replace

from .._canonical.content import Media, Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from .._canonical.request import Request
from .._util.checks import described
from ..errors import DialectError
from ._wildcards import matches

ExpectedMessage: TypeAlias = str | re.Pattern[str] | tuple[Any, Any] | ToolCall | Message | EllipsisType | Any
"""An expected message; see the argument `expected` of `assert_messages`."""


def check_messages(request: Request, expected: Sequence[ExpectedMessage]) -> None:
    """Raise AssertionError, with the differences, if the messages of `request` are not the expected messages.

    Raise TypeError if an expected message is a mapping in a provider's format: a `Message` never equals a mapping.
    """
    for each in expected:
        if isinstance(each, Mapping):
            raise TypeError(
                f"an expected message must be a text, a pair of role and text, a ToolCall or a Message, not "
                f"{described(each)}: ({each.get('role', 'user')!r}, …) is such a pair"
            )
    messages = request.messages
    if _all_match(expected, messages):
        return
    # A match is shown as received on both sides.
    came = [_line(message) for message in messages]
    pairs = dict(_pairs(expected, messages))
    wanted = [
        "..." if each is ... else came[pairs[number]] if number in pairs else _expected_line(each)
        for number, each in enumerate(expected)
    ]
    lines = [line for line in ndiff(wanted, came) if not (line.startswith("- ...") and "..." in wanted)]
    text = [f"  {line.rstrip()}" for line in lines]
    raise AssertionError("\n".join(["the messages differ from the expected ones:", *text]))


def _all_match(expected: Sequence[ExpectedMessage], messages: Sequence[Message]) -> bool:
    reached = {0}
    """Each number n for which the first n messages match the expected messages that were compared so far."""
    for each in expected:
        if each is ...:
            reached = set(range(min(reached), len(messages) + 1))
        else:
            reached = {n + 1 for n in reached if n < len(messages) and _is_message(each, messages[n])}
        if not reached:
            return False
    return len(messages) in reached


def _is_message(expected: ExpectedMessage, message: Message) -> bool:
    match expected:
        case str() | re.Pattern():
            return matches(expected, _text(message))
        case (role, text):
            return matches(role, message.role) and matches(text, _text(message))
        case ToolCall():
            return any(_same_call(expected, call) for call in message.tool_calls)
        case Message():
            return _same_message(expected, message)
        case _:  # an object with its own equality
            return bool(expected == _text(message)) or bool(expected == message)


def _text(message: Message) -> str:
    return message.text or "".join(result.text for result in message.tool_results)


def _same_message(expected: Message, message: Message) -> bool:
    """Return True if both messages have the same role, text and parts.

    Ids, names and reasoning are compared only if `expected` contains them.
    """
    wanted, found = _parts(expected), _parts(message)
    if not any(isinstance(part, Reasoning) for part in wanted):
        found = [part for part in found if not isinstance(part, Reasoning)]
    return (
        expected.role == message.role
        and expected.name in (None, message.name)
        and expected.text == message.text
        and len(wanted) == len(found)
        and all(map(_same_part, wanted, found))
    )


def _parts(message: Message) -> list[Part]:
    """Return all parts of `message` except texts.

    Dialects split texts differently, so `_text` compares the whole text.
    """
    content: object = message.content
    return (
        [] if isinstance(content, str) else [part for part in message.content if not isinstance(part, Text)]
    )


def _same_part(expected: Part, part: Part) -> bool:
    match expected, part:
        case ToolCall(), ToolCall():
            return _same_call(expected, part)
        case ToolResult(), ToolResult():
            return (
                expected.id in ("", part.id)
                and (expected.text, expected.is_error) == (part.text, part.is_error)
                and [_without_extra(each) for each in _media(expected)]
                == [_without_extra(each) for each in _media(part)]
            )
        case Reasoning(), Reasoning():
            return expected.text == part.text
        case _:
            return _without_extra(expected) == _without_extra(part)


def _media(result: ToolResult) -> list[Media | Opaque]:
    return [part for part in result.content if not isinstance(part, Text)]


def _without_extra(part: Part) -> Part:
    return part if isinstance(part, Opaque) else replace(part, extra=None)


def _same_call(expected: ToolCall, call: ToolCall) -> bool:
    if expected.name != call.name or (expected.id and expected.id != call.id):
        return False
    try:
        return matches(expected.parsed(), call.parsed())
    except DialectError:
        return expected.arguments == call.arguments


def _pairs(expected: Sequence[ExpectedMessage], messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """Yield a pair of indexes (in `expected`, in `messages`) for each message of the longest common subsequence."""
    best = [[0] * (len(messages) + 1) for _ in range(len(expected) + 1)]
    fits = [[each is not ... and _is_message(each, message) for message in messages] for each in expected]
    for wanted in reversed(range(len(expected))):
        for found in reversed(range(len(messages))):
            one = 1 + best[wanted + 1][found + 1] if fits[wanted][found] else 0
            best[wanted][found] = max(one, best[wanted + 1][found], best[wanted][found + 1])
    wanted = found = 0
    while wanted < len(expected) and found < len(messages):
        if fits[wanted][found] and best[wanted][found] == 1 + best[wanted + 1][found + 1]:
            yield wanted, found
            wanted, found = wanted + 1, found + 1
        elif best[wanted + 1][found] >= best[wanted][found + 1]:
            wanted += 1
        else:
            found += 1


def _line(message: Message) -> str:
    said = [repr(message.text)] if message.text else []
    said += map(_shown_part, _parts(message))
    return f"{message.role}: {', '.join(said) or repr('')}"


def _shown_part(part: Part) -> str:
    match part:
        case ToolCall():
            return f"{part.name}({part.arguments})"
        case ToolResult():
            media = "".join(f" + {_shown_part(each)}" for each in _media(part))
            return f"{'error' if part.is_error else 'result'} {part.text!r}{media}{f' of {part.id}' if part.id else ''}"
        case Media():
            return f"{part.kind} {part.url or part.name or part.media_type!r}"
        case Opaque():
            return f"{part.dialect}: {part.raw}"
        case _:
            return f"{type(part).__name__} {part.text!r}"


def _expected_line(expected: ExpectedMessage) -> str:
    match expected:
        case (role, text):
            return f"{role}: {_shown(text)}"
        case ToolCall():
            return f"assistant: {expected.name}({expected.arguments})"
        case Message():
            return _line(expected)
        case _:
            return f"any role: {_shown(expected)}"


def _shown(expected: object) -> str:
    return f"/{expected.pattern}/" if isinstance(expected, re.Pattern) else repr(expected)
