"""What of a record follows from one of its turns: all that a fork there takes another way."""

from __future__ import annotations

from typing import TypeAlias

from ..._trace.conversation import names_of
from .order import Order
from .record import Record, Recorded

_TOLD = 10
"""Ids that are told."""

TurnName: TypeAlias = str | int | tuple[str, int]
"""A turn: by its id; by its number within the main conversation, from 0 (from the end, below 0); or by a conversation
and the number there. A conversation goes by its id, or by its name in `triocept show`: `sub-agent 1`. Its name alone is
its first turn."""


def find_turn(record: Record, name: TurnName) -> Recorded:
    """The turn of this name.

    Raises:
        LookupError: there is none; the text says which there are.
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
    """The numbers of a turn and of all that follows from it: what comes behind it in its conversation, and the
    sub-agents that were begun there."""
    turns = record.threads[turn.thread]
    found = {each.number for each in turns[turns.index(turn) :]}
    for thread, launch in order.launches.items():  # in the order in which they began
        if launch.number in found:
            found |= {each.number for each in record.threads[thread]}
    return frozenset(found)
