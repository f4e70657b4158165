"""Two runs side by side: their turns, aligned by their answers."""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import zip_longest

from .._canonical.content import Message
from .._canonical.form import message_key
from .._trace.trace import Trace
from .._trace.turn import Turn
from .runs import Row


def compared(one: Trace, other: Trace) -> list[Row]:
    """Return pairs of turns in order. Turns with equal answers are the same; turns between such pairs are changed."""
    turns = [*one], [*other]
    keys = [*map(_key, turns[0])], [*map(_key, turns[1])]
    pairs: list[Row] = []
    for tag, i, i_end, j, j_end in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        for a, b in zip_longest(turns[0][i:i_end], turns[1][j:j_end]):
            kind = (
                "same" if tag == "equal" else "only_b" if a is None else "only_a" if b is None else "changed"
            )
            pairs.append({"a": a and a.id, "b": b and b.id, "kind": kind})
    return pairs


def _key(turn: Turn) -> bytes:
    response = turn.response
    said = message_key(Message("assistant", tuple(response.content))) if response is not None else b""
    return turn.outcome.encode() + said
