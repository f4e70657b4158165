"""Restores signed or encrypted reasoning in the messages of an agent that could not keep the reasoning.

A provider signs or encrypts its reasoning, and requires that later requests contain the reasoning unchanged. An agent
of another dialect has no field for signed reasoning, but the trace contains the whole answer. When the agent sends its
messages back, the turn of each answer is found by the ids of the tool calls in the answer, or by the answer's text.
Then the provider's reasoning is restored from the turn.

Rules:

1. Reasoning is sent only to the upstream that generated the reasoning, because another upstream would refuse the
   request.
2. Reasoning is restored only if the agent's copy of the answer has the same text, and the same calls in the same order.
3. The dropped parts of reasoning are counted, and the count is noted in the turn.
4. Some agents do not send the ids of tool calls back (LangChain's and agno's Gemini clients). If several answers have
   the same text and the same calls, the answer with the same position among the messages is used. If no answer had this
   position, no reasoning is restored.
"""

from __future__ import annotations

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
    from .._rollout.rollout_state import RolloutState

_SIGNATURE = "thoughtSignature"


class Restored(msgspec.Struct, frozen=True):
    """A request whose messages contain the signed or encrypted reasoning of only one upstream."""

    request: Request
    dropped: int
    """Number of reasoning parts that the upstream cannot use."""
    changed: bool
    """True if the messages differ from the messages that the agent sent."""


def restored(request: Request, rollout: RolloutState, *, upstream: str, dialect: str) -> Restored:
    """Return the request with the reasoning of `upstream` restored, and without that of all other upstreams."""
    index = _indexes.setdefault(rollout, _Index())
    index.update(rollout)
    messages: list[Message] = []
    dropped = 0
    place = 0
    for _, group in groupby(request.messages, key=lambda message: message.role):
        run = tuple(group)
        for message in index.find_run(run, place, upstream) if request.dialect != dialect else run:
            made, lost = _without_foreign(message, index, upstream, dialect)
            messages.append(made)
            dropped += lost
        place += len(run)
    changed = len(messages) != len(request.messages) or any(map(is_not, messages, request.messages))
    if changed:
        request = structs.replace(request, messages=tuple(messages))
    return Restored(request, dropped, changed)


class _Index:
    """The answers in a rollout's trace that contain signed or encrypted reasoning, by call id and by content."""

    def __init__(self) -> None:
        self._seen = 0
        self._by_call: dict[str, Turn] = {}
        """The turn of each tool call, by the id of the call."""
        self._alike: dict[tuple[bytes, str], _Alike] = {}
        """Turns of one upstream whose answers have equal texts and calls. The dict's key consists of a hash of text and
        calls, and the upstream's name."""
        self._origins: dict[str, str] = {}

    def update(self, rollout: RolloutState) -> None:
        trace = rollout.trace
        for number in range(self._seen, len(trace)):
            self._add(rollout.records.as_given(trace[number]))
        self._seen = len(trace)

    def find_run(self, run: tuple[Message, ...], place: int, upstream: str) -> tuple[Message, ...]:
        """Return the messages in `run`. Each message of the assistant gets the form in which `upstream` wrote it.

        All messages in `run` have the same role, and `place` is the index of the first of them in the conversation. A
        message is returned unchanged if no recorded answer of the upstream matches the message, or if the agent has
        changed its content.

        Several messages may belong to one answer: Google's SDK sends each increment back as a separate message.
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
        """Return the name of the upstream that signed or encrypted this reasoning.

        Return None if the upstream is unknown.
        """
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
    def __init__(self) -> None:
        self._by_place: dict[int, Turn] = {}
        """The turns, by the number of messages in their request. Of several turns with the same number, only the latest
        is stored."""
        self._count = 0

    def add(self, turn: Turn) -> None:
        self._by_place[len(turn.request.messages)] = turn
        self._count += 1

    def at(self, place: int) -> Turn | None:
        """Return the turn whose answer is at the index `place` in the list of messages.

        If only one turn was added, return this turn for any index. If several turns were added and none has this index,
        return None.
        """
        only = next(iter(self._by_place.values())) if self._count == 1 else None
        return self._by_place.get(place, only)


_indexes: WeakKeyDictionary[RolloutState, _Index] = WeakKeyDictionary()


def _name_of(turn: Turn) -> str | None:
    note = turn.notes.get(UPSTREAM)
    name = note.get("url") if isinstance(note, dict) else None
    return name if isinstance(name, str) else None


def _key(message: Message) -> bytes:
    """Return a hash of the texts and calls in a message.

    Messages with equal text and equal calls have equal hashes, even if the ids of the calls differ.
    """
    return message_key(Message("assistant", (Text(message.text.strip()), *message.tool_calls)))


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()


def _as_written(response: Response, message: Message) -> Message | None:
    if response.text.strip() != message.text.strip():
        return None
    if [call.name for call in response.tool_calls] != [call.name for call in message.tool_calls]:
        return None
    ids = iter([call.id for call in message.tool_calls])  # the agent's ids: the tool results refer to them
    parts: list[Text | Reasoning | ToolCall] = []
    for part in response.content:
        if isinstance(part, ToolCall):
            signature = (part.extra or {}).get(_SIGNATURE)
            extra = None if signature is None else {_SIGNATURE: signature}
            parts.append(structs.replace(part, id=next(ids), extra=extra))
        elif isinstance(part, Text | Reasoning):
            parts.append(structs.replace(part, extra=None))
    return Message("assistant", tuple(parts), message.name)


def _without_foreign(message: Message, index: _Index, upstream: str, dialect: str) -> tuple[Message, int]:
    """Return the message without other upstreams' signatures, and the number of parts that `upstream` cannot use.

    The number includes reasoning parts of other dialects. The returned message still contains these parts. The parts
    are left out when the request is rendered.
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
