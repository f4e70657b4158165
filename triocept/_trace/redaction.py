"""What is taken out before anything is recorded: keys always, and what a program wants out.

Rules:

1. Keys are taken out wherever they appear: every key of triocept's own, and a provider's for as long as an upstream
   holds it (see `_secrets`). So nobody who reads a trace can ask as its agent did.
2. What is taken out leaves a mark, `[redacted]`. What an agent and its model exchange is as it was: the record alone is
   redacted, the trace in memory and every recorder's alike.
3. Only texts are touched: what was said, arguments and results of tools, what a dialect has beside them, metadata.
   Roles, ids, names and the shape of things stay.
4. The token ids of a text spell it. Where an answer was redacted, its ids and probabilities are not kept; where a
   request was, those of the prompt. Both are gaps by name: `redacted`, `prompt_redacted`.
5. A message is looked at once, when it is new.
6. Of how a call went over the wire (`record_wire`) no body is kept where a program wants something out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any, TypeVar, final

import msgspec

from .._canonical.content import Message
from .._canonical.request import Request, Tool
from .._checks import described
from .._secrets import LIVE_KEYS, MARK
from .entries import AgentStart, Entry, Opening
from .service import ServiceCall
from .tokens import Tokens
from .turn import Turn
from .wire import WireView

__all__ = ["Redaction", "Redactor"]

T = TypeVar("T", bound=msgspec.Struct)

_OWN = b"sk-triocept-"
_OWN_KEY = re.compile(r"sk-triocept-[A-Za-z0-9_-]{16,}")
_NO_TEXT = frozenset(
    {"part", "role", "id", "kind", "dialect", "media_type", "type", "outcome", "rollout", "run"}
)
"""Members that say what something is, and not what was said."""
_encode = msgspec.json.Encoder().encode


@final
class Redaction:
    """What a program wants out of all that is recorded. Keys are taken out without it, too.

    Args:
        patterns: regular expressions; what they match becomes `[redacted]`.
        function: `(text) -> text`, for what no pattern can say; it is given every text that is recorded, whole, and
            leaves its own mark. It must give the same for the same text. Not async: a call waits for it. What it raises
            fails the call, and ends the rollout's body; no text of that rollout is recorded any more.

    Raises:
        TypeError: a pattern is none, or the function is none, or async.
        re.error: a pattern cannot be read.
    """

    def __init__(
        self, patterns: Iterable[str | re.Pattern[str]] = (), *, function: Callable[[str], str] | None = None
    ) -> None:
        if isinstance(patterns, (str, re.Pattern)):
            raise TypeError(f"Redaction takes a list of patterns: Redaction([{patterns!r}])")
        self._patterns = tuple([_compiled(pattern) for pattern in patterns])
        given: object = function
        if given is not None and (not callable(given) or iscoroutinefunction(given)):
            raise TypeError(f"function is `(text) -> text`, not async, and not {described(given)}")
        self._function = function

    def __repr__(self) -> str:
        said = [repr([pattern.pattern for pattern in self._patterns])] if self._patterns else []
        return f"Redaction({', '.join([*said, *(['function=…'] if self._function else [])])})"

    def text(self, text: str) -> str:
        """The text without what is to be out of it."""
        for pattern in self._patterns:
            text = pattern.sub(MARK, text)
        if self._function is None:
            return text
        found: object = self._function(text)
        if not isinstance(found, str):
            raise TypeError(f"the function of a Redaction gives a text, not {described(found)}")
        return found


def _compiled(pattern: object) -> re.Pattern[str]:
    if isinstance(pattern, str):
        return re.compile(pattern)
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        return pattern
    raise TypeError(f"a pattern is a regular expression, not {described(pattern)}")


class Redactor:
    """Redacts what is recorded of one rollout.

    Args:
        redaction: what its program wants out; None: nothing but keys.
    """

    def __init__(self, redaction: Redaction | None = None) -> None:
        self._redaction = redaction
        self._tools: tuple[tuple[Tool, ...], tuple[Tool, ...]] = ((), ())
        """A list of tools, and as it is recorded."""
        self._failed = False
        """What the program wants out could not be told: no text is recorded any more."""
        self._touched: dict[int, Message] = {}
        """Messages that are not as they were said, by `id`."""

    def message(self, message: Message) -> Message:
        """A message, as it is recorded."""
        found = self._clean(message)
        if found is not message:
            self._touched[id(found)] = found
        return found

    def request(self, request: Request, messages: tuple[Message, ...]) -> Request:
        """A request, as it is recorded, with these messages."""
        tools = request.tools
        if tools and tools is not self._tools[0]:
            self._tools = (tools, tuple([self._clean(tool) for tool in tools]))
        tools = self._tools[1] if tools and self._tools[1] != tools else tools
        extra, user = request.extra, request.user
        if extra is not None:
            extra = self._clean_json(extra)
        if user is not None:
            user = self._clean_json(user)
        changed = tools is not request.tools or extra is not request.extra or user is not request.user
        if not changed and messages is request.messages:
            return request
        return msgspec.structs.replace(request, messages=messages, tools=tools, extra=extra, user=user)

    def turn(self, turn: Turn) -> Turn:
        """A turn, as it is recorded; its request is so already."""
        response = turn.response and self._clean(turn.response)
        error = turn.error and self._clean(turn.error)
        notes = self._clean_json(turn.notes) if turn.notes else turn.notes
        tokens = turn.tokens
        if tokens is not None:
            tokens = self._masked(tokens, turn, answer=response is not turn.response)
        wire = self._wire(turn.wire) if turn.wire is not None else None
        same = response is turn.response and error is turn.error and notes is turn.notes
        if same and tokens is turn.tokens and wire is turn.wire:
            return turn
        increments = turn.increments if response is turn.response else None  # they count the characters
        return msgspec.structs.replace(
            turn,
            response=response,
            error=error,
            notes=notes,
            tokens=tokens,
            increments=increments,
            wire=wire,
        )

    def service(self, call: ServiceCall) -> ServiceCall:
        """A service call, as it is recorded."""
        return self._clean(call)

    def entry(self, entry: Entry) -> Entry:
        """An entry, as it is recorded; an intent is so already."""
        if isinstance(entry, Opening) and entry.metadata:
            metadata = self._clean_json(entry.metadata)
            return entry if metadata is entry.metadata else msgspec.structs.replace(entry, metadata=metadata)
        if isinstance(entry, AgentStart):
            argv = tuple([self._text(each) for each in entry.argv])
            return entry if argv == entry.argv else msgspec.structs.replace(entry, argv=argv)
        return entry

    def _wire(self, wire: WireView) -> WireView:
        """What is kept of how a call went. With a redaction no bodies: a text may stand there in escapes, which no
        pattern knows."""
        body, answer = wire.body, wire.answer
        if self._redaction is not None or self._failed:
            body = answer = b""
        elif _may_hold_a_key(body) or _may_hold_a_key(answer):
            body, answer = (
                _without_keys(each.decode("latin-1")).encode("latin-1") for each in (body, answer)
            )
        return msgspec.structs.replace(
            wire,
            url=self._text(wire.url),
            headers={name: self._text(value) for name, value in wire.headers.items()},
            answer_headers={name: self._text(value) for name, value in wire.answer_headers.items()},
            body=body,
            answer=answer,
        )

    def _masked(self, tokens: Tokens, turn: Turn, *, answer: bool) -> Tokens:
        if answer:
            tokens = msgspec.structs.replace(
                tokens, completion=b"", probabilities=b"", routed_experts=b"", gaps=(*tokens.gaps, "redacted")
            )
        if tokens.prompt and any(id(message) in self._touched for message in turn.request.messages):
            tokens = msgspec.structs.replace(tokens, prompt=b"", gaps=(*tokens.gaps, "prompt_redacted"))
        return tokens

    def _clean(self, noun: T) -> T:
        """A noun without what is to be out of it; the very one, where that is nothing."""
        if self._redaction is None and not _may_hold_a_key(_encode(noun)):
            return noun
        plain = msgspec.to_builtins(noun)
        clean = self._walk(plain)
        return noun if clean == plain else msgspec.convert(clean, type(noun))

    def _clean_json(self, value: Any) -> Any:
        if self._redaction is None and not _may_hold_a_key(_encode(value)):
            return value
        clean = self._walk(value)
        return value if clean == value else clean

    def _walk(self, value: Any) -> Any:
        match value:
            case str():
                return self._text(value)
            case dict():
                return {
                    _without_keys(name): _without_keys(inner)
                    if name in _NO_TEXT and isinstance(inner, str)
                    else self._walk(inner)
                    for name, inner in value.items()
                }
            case list():
                return [self._walk(inner) for inner in value]
            case tuple():
                return tuple([self._walk(inner) for inner in value])
            case _:
                return value

    def _text(self, text: str) -> str:
        text = _without_keys(text)
        if self._redaction is None:
            return text
        if self._failed:
            return MARK
        self._failed = True  # it stays so, if that raises
        text = self._redaction.text(text)
        self._failed = False
        return text


def _without_keys(text: str) -> str:
    for key in LIVE_KEYS:
        text = text.replace(key, MARK)
    return _OWN_KEY.sub(MARK, text) if "sk-triocept-" in text else text


def _may_hold_a_key(data: bytes) -> bool:
    return _OWN in data or any(key in data for key in LIVE_KEYS.bytes)
