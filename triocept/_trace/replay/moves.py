"""What an agent has said and done so far, in the form in which two runs are compared.

Two calls of two runs of one agent, in one dialect or in two, have the same moves if nothing but the world differs.

Rules (each was needed by a real agent; see `message_key` for those that hold within one run, too):

1. Roles: developer is system. The results of tools are of the role `tool`, wherever the dialect packs them.
2. Neighbours of one role are one: their texts are joined, and empty ones dropped, and what the model thought. Texts of
   the model are joined without anything between them: Google's SDK sends each increment back as a message of its own.
3. Calls have no ids: their order says which result is whose. Their arguments are JSON values.
4. Directories of the run are masked everywhere, what else differs from run to run in what the agent and its user say:
   the model's words are those of the record, to the letter.
5. What a tool gave is left out, unless it is asked for: dates, process numbers and durations are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from hashlib import blake2b
from itertools import groupby
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
from ..message_key import NONCE, arguments_value, unmarked
from .roots import in_json
from .volatile import steady

_encode = msgspec.json.Encoder(order="deterministic").encode
_IDS = frozenset({"id", "call_id", "item_id", "status"})


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
        self._words = cache(lambda text: mask(text).strip())
        self._results = results
        self._known: dict[int, tuple[Message, Moves]] = {}
        """By a message's `id`; the object is kept, so that it stays its own."""

    def moves(self, request: Request) -> Moves:
        """All moves up to this call."""
        each = (move for message in request.messages for move in self._of(message))
        return tuple(_joined(self._answers(each)))

    def result(self, result: ToolResult) -> str:
        """What a tool gave, without what differs from run to run, and whether it failed."""
        return ("failed: " if result.is_error else "") + steady(self._mask(result.text))

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
                said = "" if text.startswith(NONCE) else text if role == "assistant" else self._said(text)
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

    def _said(self, text: str) -> str:
        return steady(self._mask(text)).strip()

    def _answers(self, moves: Iterable[Move]) -> Iterator[Move]:
        """Join texts of the model. They are masked here, for a piece may end within a directory's name."""
        for is_answer, group in groupby(
            moves, key=lambda move: (move.role, move.kind) == ("assistant", "text")
        ):
            if not is_answer:
                yield from group
            elif words := self._words("".join(move.value for move in group)):
                yield Move("assistant", "text", words)


def _joined(moves: Iterable[Move]) -> Iterator[Move]:
    """Join texts of one role."""
    for (role, kind), group in groupby(moves, key=lambda move: (move.role, move.kind)):
        if kind == "text":
            yield Move(role, kind, "\n".join(move.value for move in group))
        else:
            yield from group


def _text(value: Json) -> str:
    return _encode(value).decode()


def _without_ids(raw: Json) -> Json:
    plain = unmarked(raw)
    return (
        {name: value for name, value in plain.items() if name not in _IDS} if isinstance(plain, dict) else raw
    )
