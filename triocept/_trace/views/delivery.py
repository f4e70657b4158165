"""Delivery of each answer to the agent, and the answer that replaced it.

Rules:

1. An answer from which the agent continues was delivered, whatever else is known.
2. Of the other answers, those given while the agent waited (`Turn.attended`) were delivered. A turn is recorded before
   its last byte leaves, so no more can be known of a run's last answer.
3. An undelivered answer is superseded by the next answer to the same question. If both were delivered, the agent sent
   two calls: it samples, and does not retry (a retry gets the first answer once more).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..._canonical.form import message_key
from ..trace import Trace
from ..turn import Turn


class Delivery(NamedTuple):
    """Delivery of one answer."""

    delivered: bool
    superseded_by: str | None
    """Id of the turn with the next answer to the same question; None: no such turn, or the answer was delivered."""


def deliveries(trace: Trace) -> dict[str, Delivery]:
    """Return the delivery of each turn's answer, by the turn's id."""
    continued = set(trace.parents.values())
    turns = trace.turns
    found = {}
    for at, turn in enumerate(turns):
        got = turn.id in continued or (turn.outcome == "answered" and turn.attended)
        found[turn.id] = Delivery(got, None if got else _answered_after(turn, turns[at + 1 :]))
    return found


def _answered_after(turn: Turn, later: Sequence[Turn]) -> str | None:
    """Return the next turn that was answered to the same question."""
    return next(
        (each.id for each in later if each.outcome == "answered" and _asks_the_same(each, turn)), None
    )


def _asks_the_same(turn: Turn, other: Turn) -> bool:
    messages, others = turn.request.messages, other.request.messages
    if len(messages) != len(others) or turn.request.tools != other.request.tools:
        return False
    return all(a is b or message_key(a) == message_key(b) for a, b in zip(messages, others, strict=True))
