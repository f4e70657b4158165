"""Reasoning that only its provider can read, put back where the agent could not keep it.

A provider signs or encrypts what it thought, and wants it back unchanged. An agent of another dialect has no place
for that. But the trace has the whole answer: when the agent's history comes back, its turn is found by the ids of its
tool calls, or by what it says, and what the provider wrote stands there again.

Rules:

1. It goes back to the upstream that made it, and to no other: another one would refuse the request.
2. It goes back only where the agent kept the rest: the same text, the same calls in the same order.
3. What is dropped is counted, for the note in the turn.
4. Where an agent does not send the ids back (LangChain's and agno's Gemini), and several answers say the same, it is
   the one that stands where it stood; if none does, none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from operator import is_not
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec
from msgspec import structs

from .._canonical.content import Message, Reasoning, Text, ToolCall
from .._canonical.form import join_messages, message_key
from .._canonical.request import Request
from .._canonical.response import Response
from .._trace.turn import UPSTREAM, Turn

if TYPE_CHECKING:
    from .._rollout.exchange_state import Home

_SIGNATURE = "thoughtSignature"


class Restored(msgspec.Struct, frozen=True):
    """A request whose history holds what this upstream made, and nothing of another."""

    request: Request
    dropped: int
    """How many stretches of reasoning are of no use to this upstream."""
    changed: bool
    """Whether the history differs from what the agent sent."""


def restored(request: Request, rollout: Home, *, upstream: str, dialect: str) -> Restored:
    """The request for this upstream.

    Args:
        request: the agent's.
        rollout: the one that it is a call of.
        upstream: the name of the upstream that it goes to.
        dialect: what that upstream speaks.
    """
    index = _indexes.setdefault(rollout, _Index())
    index.update(rollout)
    messages: list[Message] = []
    dropped = 0
    for place, run in _runs(request.messages):
        for message in index.find_run(run, place, upstream) if request.dialect != dialect else run:
            made, lost = _without_foreign(message, index, upstream, dialect)
            messages.append(made)
            dropped += lost
    changed = len(messages) != len(request.messages) or any(map(is_not, messages, request.messages))
    if changed:
        request = structs.replace(request, messages=tuple(messages))
    return Restored(request, dropped, changed)


def _runs(messages: Sequence[Message]) -> Iterator[tuple[int, tuple[Message, ...]]]:
    """The messages, and where they stand; what the model says in a row is together."""
    place = 0
    for _, group in groupby(messages, key=lambda message: message.role):
        run = tuple(group)
        yield place, run
        place += len(run)


class _Index:
    """Where in a rollout's trace an answer is that holds something opaque."""

    def __init__(self) -> None:
        self._seen = 0
        self._by_call: dict[str, Turn] = {}
        """By the id of a call."""
        self._alike: dict[tuple[bytes, str], _Alike] = {}
        """By what was said, and the upstream that said it."""
        self._origins: dict[str, str] = {}

    def update(self, rollout: Home) -> None:
        """Take the turns that came since the last time."""
        trace = rollout.trace
        for number in range(self._seen, len(trace)):
            self._add(rollout.records.as_given(trace[number]))
        self._seen = len(trace)

    def find_run(self, run: tuple[Message, ...], place: int, upstream: str) -> tuple[Message, ...]:
        """What is said in a row, as this upstream wrote it, as far as that is known and was not changed.

        It may be the increments of one answer: Google's SDK sends each back as a message of its own.
        """
        if run[0].role != "assistant":
            return run
        if len(run) > 1 and (whole := self._find(join_messages(run), place, upstream)) is not None:
            return (whole,)
        return tuple(
            self._find(message, number, upstream) or message for number, message in enumerate(run, place)
        )

    def _find(self, message: Message, place: int, upstream: str) -> Message | None:
        for call in message.tool_calls:
            turn = self._by_call.get(call.id)
            if turn is not None and turn.response is not None and _name_of(turn) == upstream:
                return _as_written(turn.response, message)
        alike = self._alike.get((_key(message), upstream)) if self._alike else None
        turn = alike.at(place) if alike is not None else None
        return None if turn is None or turn.response is None else _as_written(turn.response, message)

    def origin(self, part: Reasoning) -> str | None:
        """Which upstream made the opaque pieces of this reasoning; None: not known here."""
        return next(
            (self._origins[key] for blob in part.blobs if (key := _digest(blob.data)) in self._origins), None
        )

    def _add(self, turn: Turn) -> None:
        response, name = turn.response, _name_of(turn)
        if turn.outcome != "answered" or response is None or name is None:
            return
        blobs = [blob for part in response.content if isinstance(part, Reasoning) for blob in part.blobs]
        signed = any(_SIGNATURE in (call.extra or {}) for call in response.tool_calls)
        if not blobs and not signed:
            return
        self._origins |= {_digest(blob.data): name for blob in blobs}
        self._by_call |= {call.id: turn for call in response.tool_calls}
        message = Message("assistant", tuple(response.content))
        if message.tool_calls or message.text.strip():
            self._alike.setdefault((_key(message), name), _Alike()).add(turn)


class _Alike:
    """Answers that say the same."""

    def __init__(self) -> None:
        self._by_place: dict[int, Turn] = {}
        """By the number of messages before it: the latest there."""
        self._count = 0

    def add(self, turn: Turn) -> None:
        self._by_place[len(turn.request.messages)] = turn
        self._count += 1

    def at(self, place: int) -> Turn | None:
        """The one that stood there; else the only one; else none."""
        only = next(iter(self._by_place.values())) if self._count == 1 else None
        return self._by_place.get(place, only)


_indexes: WeakKeyDictionary[Home, _Index] = WeakKeyDictionary()


def _name_of(turn: Turn) -> str | None:
    note = turn.notes.get(UPSTREAM)
    name = note.get("url") if isinstance(note, dict) else None
    return name if isinstance(name, str) else None


def _key(message: Message) -> bytes:
    """Equal for messages of the same text and the same calls, whatever the ids of those."""
    return message_key(Message("assistant", (Text(message.text.strip()), *message.tool_calls)))


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()


def _as_written(response: Response, message: Message) -> Message | None:
    if response.text.strip() != message.text.strip():
        return None
    if [call.name for call in response.tool_calls] != [call.name for call in message.tool_calls]:
        return None
    ids = iter([call.id for call in message.tool_calls])  # as the agent knows them, for the results name them
    return Message(
        "assistant",
        tuple(
            _portable(part, next(ids)) if isinstance(part, ToolCall) else structs.replace(part, extra=None)
            for part in response.content
            if isinstance(part, Text | Reasoning | ToolCall)
        ),
        message.name,
    )


def _portable(call: ToolCall, identity: str) -> ToolCall:
    signature = (call.extra or {}).get(_SIGNATURE)
    extra = None if signature is None else {_SIGNATURE: signature}
    return structs.replace(call, id=identity, extra=extra)


def _without_foreign(message: Message, index: _Index, upstream: str, dialect: str) -> tuple[Message, int]:
    """The message without the opaque pieces that another upstream of this dialect made; itself, if it has none.

    And how many stretches of reasoning this upstream can do nothing with: those of other dialects are left out when
    the request is written.
    """
    foreign, mine = [], []
    for part in message.content:
        if not isinstance(part, Reasoning) or not part.blobs:
            continue
        if any(blob.dialect != dialect for blob in part.blobs):
            foreign.append(part)
        elif index.origin(part) not in (None, upstream):
            mine.append(part)
    if not mine:
        return message, len(foreign)
    taken = set(map(id, mine))
    kept = tuple(
        structs.replace(part, blobs=()) if isinstance(part, Reasoning) and id(part) in taken else part
        for part in message.content
    )
    return structs.replace(message, content=kept), len(foreign) + len(mine)
