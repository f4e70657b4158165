"""Reasoning that only its provider can read, put back where the agent could not keep it.

A provider signs or encrypts what it thought, and wants it back unchanged. An agent of another dialect has no place
for that. But the trace has the whole answer: when the agent's history comes back, its turn is found by the ids of its
tool calls, or by its text, and what the provider wrote stands there again.

Rules:

1. It goes back to the upstream that made it, and to no other: another one would refuse the request.
2. It goes back only where the agent kept the rest: the same text, the same calls in the same order.
3. What is dropped is counted, for the note in the turn.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from .._canonical.content import Message, Reasoning, Text, ToolCall
from .._canonical.request import Request
from .._canonical.response import Response
from .._trace.turn import Turn

if TYPE_CHECKING:
    from .._rollout.rollout import Rollout

__all__ = ["NOTE", "Restored", "restored"]

NOTE = "upstream"
"""The name of the note in a turn that says which upstream answered it."""

_SIGNATURE = "thoughtSignature"


class Restored(msgspec.Struct, frozen=True):
    """A request whose history holds what this upstream made, and nothing of another."""

    request: Request
    dropped: int
    """How many stretches of reasoning are of no use to this upstream."""
    changed: bool
    """Whether the history differs from what the agent sent."""


def restored(request: Request, rollout: Rollout, *, upstream: str, dialect: str) -> Restored:
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
    for message in request.messages:
        made = None
        if message.role == "assistant":
            made = index.find(message, upstream) if request.dialect != dialect else None
            if made is None:
                made, lost = _without_foreign(message, index, upstream, dialect)
                dropped += lost
        messages.append(message if made is None else made)
    changed = any(new is not old for new, old in zip(messages, request.messages, strict=True))
    if changed:
        request = msgspec.structs.replace(request, messages=tuple(messages))
    return Restored(request, dropped, changed)


class _Index:
    """Where in a rollout's trace an answer is that holds something opaque."""

    def __init__(self) -> None:
        self._seen = 0
        self._turns: dict[str, Turn] = {}
        self._origins: dict[str, str] = {}

    def update(self, rollout: Rollout) -> None:
        """Take the turns that came since the last time."""
        trace = rollout.trace
        for number in range(self._seen, len(trace)):
            self._add(trace[number])
        self._seen = len(trace)

    def find(self, message: Message, upstream: str) -> Message | None:
        """The message as this upstream wrote it; None where it is not known, or was changed."""
        for key in _keys(message.tool_calls, message.text):
            turn = self._turns.get(key)
            if turn is not None and turn.response is not None and _name_of(turn) == upstream:
                return _as_written(turn.response, message)
        return None

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
        for key in _keys(response.tool_calls, response.text):
            self._turns[key] = turn


_indexes: WeakKeyDictionary[Rollout, _Index] = WeakKeyDictionary()


def _name_of(turn: Turn) -> str | None:
    note = turn.notes.get(NOTE)
    name = note.get("url") if isinstance(note, dict) else None
    return name if isinstance(name, str) else None


def _keys(calls: tuple[ToolCall, ...], text: str) -> list[str]:
    if calls:
        return [f"call {call.id}" for call in calls]
    return [f"text {_digest(text.strip())}"] if text.strip() else []


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
            _portable_call(part, next(ids)) if isinstance(part, ToolCall) else _portable(part)
            for part in response.content
            if isinstance(part, Text | Reasoning | ToolCall)
        ),
        message.name,
    )


def _portable(part: Text | Reasoning) -> Text | Reasoning:
    return msgspec.structs.replace(part, extra=None)


def _portable_call(call: ToolCall, identity: str) -> ToolCall:
    signature = (call.extra or {}).get(_SIGNATURE)
    extra = None if signature is None else {_SIGNATURE: signature}
    return msgspec.structs.replace(call, id=identity, extra=extra)


def _without_foreign(
    message: Message, index: _Index, upstream: str, dialect: str
) -> tuple[Message | None, int]:
    """The message without the opaque pieces that another upstream of this dialect made (None: it has none).

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
        return None, len(foreign)
    kept = tuple(
        msgspec.structs.replace(part, blobs=()) if any(part is each for each in mine) else part
        for part in message.content
    )
    return msgspec.structs.replace(message, content=kept), len(foreign) + len(mine)
