"""Whether the agent got an answer, and which one took its place.

Rules:

1. What the agent goes on from it got, whatever else is known.
2. Of the rest it got what was answered while it waited for it: `Turn.attended`. A turn is recorded before its last byte
   leaves, so of a run's last answer nobody can know more.
3. An answer that it did not get is superseded by the next one to the same question. Where it got both it asked twice:
   an agent that samples is no agent that tries again (that one gets the first answer once more).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..._canonical.form import message_key
from ..trace import Trace
from ..turn import Turn


class Delivery(NamedTuple):
    """What became of one answer."""

    delivered: bool
    superseded_by: str | None
    """The id of the turn with the next answer to the same question; None: there is none, or it was delivered."""


def deliveries(trace: Trace) -> dict[str, Delivery]:
    """What became of the answer of each turn, by its id."""
    continued = set(trace.parents.values())
    turns = trace.turns
    found = {}
    for at, turn in enumerate(turns):
        got = turn.id in continued or (turn.outcome == "answered" and turn.attended)
        found[turn.id] = Delivery(got, None if got else _answered_after(turn, turns[at + 1 :]))
    return found


def _answered_after(turn: Turn, later: Sequence[Turn]) -> str | None:
    """The next turn that was answered to the same question."""
    return next(
        (each.id for each in later if each.outcome == "answered" and _asks_the_same(each, turn)), None
    )


def _asks_the_same(turn: Turn, other: Turn) -> bool:
    messages, others = turn.request.messages, other.request.messages
    if len(messages) != len(others) or turn.request.tools != other.request.tools:
        return False
    return all(a is b or message_key(a) == message_key(b) for a, b in zip(messages, others, strict=True))
