"""The part of a record that follows from one of its turns, and that a fork there replaces."""

from __future__ import annotations

from typing import TypeAlias

from ..._trace.conversation import names_of
from .order import Order
from .record import Record, Recorded

_TOLD = 10
"""Maximum ids in an error."""

TurnName: TypeAlias = str | int | tuple[str, int]
"""Name of a turn:

* its id;
* its number within the main conversation, from 0 (below 0: from the end);
* a conversation and the number there, or the conversation alone for its first turn.

A conversation is named by its id, or by its name in `triocept show`: `sub-agent 1`."""


def find_turn(record: Record, name: TurnName) -> Recorded:
    """Return the turn of this name.

    Raises:
        LookupError: there is no such turn; the text lists the turns.
    """
    names = {called: id_ for (id_, _), called in names_of(each.conversation for each in record.turns).items()}
    if isinstance(name, str):
        for each in record.turns:
            if each.turn.id == name:
                return each
        if name in names:
            return find_turn(record, (name, 0))
        raise LookupError(
            f"the trace of rollout {record.trace.rollout} has no turn {name!r}; there are "
            f"{', '.join(each.turn.id for each in record.turns[:_TOLD]) or 'none'}"
            f"{', …' if len(record.turns) > _TOLD else ''}"
        )
    conversation, number = (None, name) if isinstance(name, int) else name
    turns = [
        each
        for thread, each_thread in record.threads.items()
        if not thread[1]
        for each in each_thread
        if (
            each.kind == "main"
            if conversation is None
            else thread[0] in (conversation, names.get(conversation))
        )
    ]
    called = "main conversation" if conversation is None else f"conversation {conversation!r}"
    if not turns and conversation is not None:
        there = ", ".join(names) or "none"
        raise LookupError(f"rollout {record.trace.rollout} has no {called}; there are {there}")
    if not -len(turns) <= number < len(turns):
        there = f"0 to {len(turns) - 1}" if len(turns) > 1 else "0" if turns else "none"
        raise LookupError(
            f"the {called} of rollout {record.trace.rollout} has no turn {number}; it has {there}"
        )
    return turns[number]


def following(record: Record, order: Order, turn: Recorded) -> frozenset[int]:
    """Return the numbers of a turn and of all turns that follow from it.

    These are the later turns of its conversation, and the sub-agents begun there."""
    turns = record.threads[turn.thread]
    found = {each.number for each in turns[turns.index(turn) :]}
    for thread, launch in order.launches.items():  # in the order in which they began
        if launch.number in found:
            found |= {each.number for each in record.threads[thread]}
    return frozenset(found)
