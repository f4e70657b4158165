"""What an agent has said and done so far, in the form in which two runs are compared.

Two calls of two runs of one agent, in one dialect or in two, have the same moves if nothing but the world differs.

Rules (each was needed by a real agent; see `message_key` for those that hold within one run, too):

1. Roles: developer is system. The results of tools are of the role `tool`, wherever the dialect packs them.
2. Neighbours of one role are one: their texts are joined, and empty ones dropped, and what the model thought.
3. Calls have no ids: their order says which result is whose. Their arguments are JSON values.
4. Directories of the run are masked everywhere, what else differs from run to run in what the agent and its user say:
   the model's words are those of the record, to the letter.
5. What a tool gave is left out, unless it is asked for: dates, process numbers and durations are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

import msgspec

from ..._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from ..._canonical.request import Request
from ..message_key import NONCE, arguments_value
from .roots import in_json
from .volatile import steady

__all__ = ["Move", "Moves", "Normal"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_IDS = frozenset({"id", "call_id", "item_id", "status", "cache_control"})


class Move(NamedTuple):
    """One thing that was said or done."""

    role: str
    kind: str
    """text, call, result, refusal, media, opaque"""
    value: str


Moves: TypeAlias = tuple[Move, ...]


class Normal:
    """Makes moves of requests. Messages that are the same object are looked at once.

    Args:
        mask: takes the run's directories out of a text.
        results: whether what tools gave counts.
    """

    def __init__(self, mask: Callable[[str], str], *, results: bool = False) -> None:
        self._mask = mask
        self._results = results
        self._known: dict[int, tuple[Message, Moves]] = {}
        """By a message's `id`; the object is kept, so that it stays its own."""

    def moves(self, request: Request) -> Moves:
        """All moves up to this call."""
        return tuple(_joined(move for message in request.messages for move in self._of(message)))

    def result(self, result: ToolResult) -> str:
        """What a tool gave, without what differs from run to run."""
        return steady(self._mask(result.text))

    def _of(self, message: Message) -> Moves:
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            role = "system" if message.role == "developer" else message.role
            made = tuple(move for part in message.content if (move := self._move(role, part)))
            known = self._known[id(message)] = (message, made)
        return known[1]

    def _move(self, role: str, part: Part) -> Move | None:
        match part:
            case Text(text=text):
                said = "" if text.startswith(NONCE) else self._said(role, text)
                return Move(role, "text", said) if said else None
            case RefusalText(text=text):
                return Move(role, "refusal", self._mask(text))
            case ToolCall(name=name, arguments=arguments):
                return Move(role, "call", _text([name, in_json(arguments_value(arguments), self._mask)]))
            case ToolResult():
                return Move("tool", "result", self.result(part) if self._results else "")
            case Media(kind=kind, url=url, data=data):
                digest = blake2b((data or "").encode(), digest_size=16).hexdigest()
                return Move(role, "media", _text([kind, url, data and digest]))
            case Opaque(raw=raw):
                return Move(role, "opaque", steady(_text(in_json(_without_ids(raw), self._mask))))
            case Reasoning():
                return None

    def _said(self, role: str, text: str) -> str:
        masked = self._mask(text)
        return (masked if role == "assistant" else steady(masked)).strip()


def _joined(moves: Iterable[Move]) -> Iterator[Move]:
    """The same, with texts of one role one."""
    last: Move | None = None
    for move in moves:
        if last is not None and last.kind == move.kind == "text" and last.role == move.role:
            last = Move(last.role, "text", last.value + "\n" + move.value)
            continue
        if last is not None:
            yield last
        last = move
    if last is not None:
        yield last


def _text(value: Json) -> str:
    return _encode(value).decode()


def _without_ids(raw: Json) -> Json:
    return {name: value for name, value in raw.items() if name not in _IDS} if isinstance(raw, dict) else raw
