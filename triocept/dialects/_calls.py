"""Convert the arguments and ids of tool calls, and find the call to which a tool result belongs.

Some dialects require arguments that are a JSON object. In these dialects, arguments that are not an object (invalid
JSON, cut JSON, free text) are written as `{"_raw": "the text"}`. When the parser reads such an object, the parser
restores the text. Arguments of a tool that takes free text are written as `{"input": "the text"}`.

Some servers number the calls of each answer from 0, so ids repeat in one conversation. Anthropic and OpenAI's Responses
API refuse such a conversation.

These rules pair calls with results in a dialect whose ids are optional, and place results among the messages:

1. A call without an id gets an id that stays the same in all requests of one conversation. A generated id begins with
   `MADE`, and is never written to a provider of the same dialect.
2. A result belongs to the call with the result's id. If no call has that id, the result belongs to the oldest
   unanswered call of the tool that the result names. In both cases, the call is answered by this result.
3. In a dialect where each result is a separate message, results are placed right after their calls. The other parts of
   the message that contained the results, and the media in the results, are placed after all results.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from operator import is_
from uuid import uuid4

import msgspec

from .._canonical.content import Json, Message, Part, ToolCall, ToolResult
from .._canonical.request import Request
from ..errors import DialectError
from ._documents import decode_json, encode_json, merged

_RAW = "_raw"


def object_of(arguments: str) -> dict[str, Json]:
    """Return `arguments`, parsed as a JSON object.

    If `arguments` is not a JSON object, return `{"_raw": arguments}`.
    """
    if not arguments.strip():
        return {}
    try:
        found = decode_json(arguments)
    except DialectError:
        found = None
    return found if isinstance(found, dict) else {_RAW: arguments}


def is_object(arguments: str) -> bool:
    if not arguments.strip() or arguments == "{}":
        return True
    try:
        return isinstance(decode_json(arguments), dict)
    except DialectError:
        return False


def text_of(value: dict[str, Json]) -> str:
    """Return `value` as JSON text. If `value` contains a text that `object_of` wrapped, return this text."""
    raw = value.get(_RAW) if len(value) == 1 else None
    if isinstance(raw, str) and object_of(raw) == value:
        return raw
    return encode_json(value).decode()


_INPUT = "input"
SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {_INPUT: {"type": "string"}},
    "required": [_INPUT],
    "additionalProperties": False,
}
"""The JSON Schema with which a free-text tool is declared as a function."""


def wrapped(call: ToolCall) -> ToolCall:
    arguments = encode_json({_INPUT: call.arguments}).decode()
    return msgspec.structs.replace(call, arguments=arguments, kind="json", extra=None)


def unwrapped(call: ToolCall) -> ToolCall:
    """Convert `call` into a call of a tool that takes free text.

    If the arguments are `{"input": text}`, the new arguments are `text`. Otherwise the arguments are not changed.
    """
    text = call.arguments
    try:
        found = decode_json(text)
    except DialectError:
        found = None
    if isinstance(found, dict) and isinstance(found.get(_INPUT), str):
        text = found[_INPUT]
    return msgspec.structs.replace(call, arguments=text, kind="text", extra=None)


def custom_names(request: Request) -> frozenset[str]:
    """Return the names of those tools of the request that take free text in place of JSON arguments."""
    return frozenset([tool.name for tool in request.tools if tool.kind == "custom"])


def fitted_call(call: ToolCall, customs: Iterable[str]) -> ToolCall:
    """Convert the call so that its arguments are of the kind (JSON or free text) that the agent declared for the tool.

    `customs` contains the names of the tools that take free text.
    """
    if call.kind == "json" and call.name in customs:
        return unwrapped(call)
    if call.kind == "text" and call.name not in customs:
        return wrapped(call)
    return call


class FittedCall:
    """A streamed tool call, converted to the kind (JSON arguments or free text) that the agent declared.

    If the call must be converted, its arguments are not sent until all of them have arrived. `customs` contains the
    names of the tools that take free text.
    """

    def __init__(self, call: ToolCall, customs: Iterable[str]) -> None:
        self.call: ToolCall = call
        self._customs = customs
        self._held = [call.arguments] if (call.kind == "text") != (call.name in customs) else None

    def hold(self, text: str) -> bool:
        """Add the next piece of the arguments.

        Return True if the piece must wait. Return False if the piece can be written now.
        """
        if self._held is not None:
            self._held.append(text)
        return self._held is not None

    @property
    def held(self) -> bool:
        return self._held is not None

    def release(self) -> ToolCall:
        """Set `held` to False, and return the complete call, converted to the kind that the agent declared."""
        whole = msgspec.structs.replace(self.call, arguments="".join(self._held or ()))
        self.call, self._held = fitted_call(whole, self._customs), None
        return self.call


_LEGAL = re.compile(r"[a-zA-Z0-9_-]+").fullmatch  # Anthropic's rule for tool ids


def fresh_id(prefix: str) -> str:
    """Return a new random id that begins with `prefix`, such as `fresh_id("call_")`."""
    return prefix + uuid4().hex[:24]


def with_id(call: ToolCall) -> ToolCall:
    """Return the call.

    If the call has no id, add a new id: without an id, clients fail, or generate an id themselves.
    """
    return call if call.id else msgspec.structs.replace(call, id=fresh_id("call_"))


def legal_id(given: str, prefix: str) -> str:
    """Return `given` if all providers accept it as an id, else `prefix` and a hash of `given`.

    The same `given` always has the same replacement, so a call and its result still match.
    """
    if _LEGAL(given):
        return given
    return prefix + hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:24]


def short_id(given: str, prefix: str, limit: int = 64) -> str:
    """Return `given` if it has 1 to `limit` characters, else `prefix` and a hash of `given`.

    The same `given` always has the same replacement, so a call and its result still match.
    """
    return given if 0 < len(given) <= limit else legal_id(f" {given}" if given else "", prefix)


def distinct_calls(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages with distinct call ids.

    A call whose id an earlier call already has gets a new id, and so does the result of this call. The first call with
    an id keeps the id. The same conversation always gets the same ids.
    """
    ids = [call.id for message in messages for call in message.tool_calls]
    taken, seen = set(ids), set[str]()
    if len(ids) == len(taken):
        return messages
    numbers: dict[str, int] = {}
    """For each original id: the number in the latest id that replaces it."""
    waiting: dict[str, deque[str]] = {}
    """For each original id: the new ids of calls that have no result yet."""

    def renamed(part: Part) -> Part:
        if isinstance(part, ToolCall):
            fresh = part.id
            if fresh in seen:
                numbers[part.id] = next(
                    number for number in count(numbers.get(part.id, 2)) if f"{part.id}_{number}" not in taken
                )
                fresh = f"{part.id}_{numbers[part.id]}"
                taken.add(fresh)
            seen.add(part.id)
            waiting.setdefault(part.id, deque()).append(fresh)
            return msgspec.structs.replace(part, id=fresh)
        if isinstance(part, ToolResult) and waiting.get(part.id):
            return msgspec.structs.replace(part, id=waiting[part.id].popleft())
        return part

    return [
        msgspec.structs.replace(message, content=tuple([renamed(part) for part in message.content]))
        for message in messages
    ]


MADE = "triocept_call_"
_IN_PAIRS = frozenset({ToolCall, ToolResult})


def in_pairs(message: Message) -> bool:
    return not _IN_PAIRS.isdisjoint(map(type, message.content))


class Pairing:
    """Adds missing ids to the tool calls and results of one conversation, message by message.

    Args:
        kept: a function that is called with the id of a result, if the result's call has another id. The function
            returns the `extra` of the result. This `extra` contains the result's own id, so that the own id is sent to
            the provider again.
    """

    def __init__(self, kept: Callable[[str], dict[str, Json]]) -> None:
        self._kept = kept
        self._made = 0
        self._known: dict[str, str] = {}
        """By the id of each call: the name of the called tool."""
        self._waiting: dict[str, _Waiting] = {}
        """By the name of each tool: the queue of its unanswered calls."""

    def pair(self, message: Message) -> Message:
        """Return `message` with an id for each call and each result. If no id is missing, return the same object."""
        if not in_pairs(message):
            return message
        paired: list[Part] = []
        for part in message.content:
            match part:
                case ToolCall():
                    paired.append(self.call(part))
                case ToolResult():
                    paired.append(self.result(part))
                case _:
                    paired.append(part)
        if all(map(is_, paired, message.content)):
            return message
        return msgspec.structs.replace(message, content=tuple(paired))

    def call(self, call: ToolCall) -> ToolCall:
        """Add the call to the unanswered calls, and return the call. If the call has no id, generate an id."""
        identity = call.id or self._new_id()
        self._known[identity] = call.name
        self._waiting.setdefault(call.name, _Waiting()).add(identity)
        return call if call.id else msgspec.structs.replace(call, id=identity)

    def result(self, result: ToolResult) -> ToolResult:
        """Return the result with the id of the result's call, and mark this call as answered."""
        waiting = self._waiting.get(result.name or "")
        if result.id in self._known:  # the tool name of such a result may be missing or wrong
            if waiting is None or not waiting.discard(result.id):
                self._waiting[self._known[result.id]].discard(result.id)
            return result
        oldest = waiting.oldest if waiting is not None else None
        if waiting is not None and oldest is not None and (not result.id or oldest.startswith(MADE)):
            waiting.discard(oldest)
            extra = result.extra
            if result.id:  # write an id again that only the result has
                extra = merged(extra or {}, self._kept(result.id))
            return msgspec.structs.replace(result, id=oldest, extra=extra)
        return result if result.id else msgspec.structs.replace(result, id=self._new_id())

    def _new_id(self) -> str:
        self._made += 1
        return f"{MADE}{self._made}"


class _Waiting:
    """A queue of the ids of unanswered tool calls. Each operation takes constant time."""

    def __init__(self) -> None:
        self._ids: deque[str] = deque()
        self._gone: Counter[str] = Counter()
        """For each id: the number of answered calls that are still in the queue."""
        self._left: Counter[str] = Counter()

    def add(self, identity: str) -> None:
        self._ids.append(identity)
        self._left[identity] += 1

    def discard(self, identity: str) -> bool:
        """Mark the oldest unanswered call with this id as answered.

        Return False if there is no unanswered call with this id.
        """
        if not self._left[identity]:
            return False
        self._left[identity] -= 1
        self._gone[identity] += 1
        return True

    @property
    def oldest(self) -> str | None:
        while self._ids and self._gone[self._ids[0]]:
            self._gone[self._ids.popleft()] -= 1
        return self._ids[0] if self._ids else None


def results_first(
    messages: Iterable[Message], shown: Callable[[ToolResult], Iterable[Part]] | None
) -> Iterator[tuple[Message, ToolResult | list[Part]]]:
    """Split the messages so that each tool result is an item of its own, before the other parts of its message.

    Each yielded item is a pair: the original `Message`, and the content to write (one result, or a list of parts).

    Args:
        messages: the conversation.
        shown: function that returns those parts of a result that the dialect cannot express in a result. These parts
            are written in a user message after the results. None means that the dialect can express all parts.
    """
    waiting: list[Part] = []
    for message in messages:
        for result in message.tool_results:
            yield message, result
            waiting += shown(result) if shown is not None else ()
        rest = [part for part in message.content if not isinstance(part, ToolResult)]
        if message.tool_results and not rest:
            continue
        if waiting and message.role not in ("user", "tool"):
            yield Message("user"), waiting
            waiting = []
        yield message, [*waiting, *rest]
        waiting = []
    if waiting:
        yield Message("user"), waiting
