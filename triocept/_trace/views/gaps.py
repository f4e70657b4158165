"""Names of the gaps that a turn has for training.

Rules:

1. Missing data has a name, and its turn is not trained on; nothing is repaired or invented.
2. Gaps found when the tokens arrived (`Tokens.gaps`) keep their names.
3. An unknown value (a temperature, a version of the weights) is no fault of the tokens: it is listed separately.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..._util.checks import described
from ..turn import Turn

ACCEPTABLE = (
    "client_disconnected_before_end",
    "not_answered",
    "rewritten_response",
    "superseded",
    "upstream_truncated",
)
"""Gaps that a trainer may accept: the tokens themselves are correct."""


def check_accepted(names: Collection[str]) -> None:
    """Raise if these gaps cannot be accepted.

    Raises:
        TypeError: `names` is no collection of names.
        ValueError: a gap cannot be accepted: the ids, or the log probabilities, are missing.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"accept is a list of names of gaps, not {described(names)}")
    for name in names:
        if name not in ACCEPTABLE:
            raise ValueError(f"accept takes {', '.join(ACCEPTABLE)}, and not {name!r}")


def gaps_of(turn: Turn, *, delivered: bool, superseded: bool) -> tuple[str, ...]:
    """Return the gaps for which a turn should not be trained on; empty: no gaps."""
    return tuple(dict.fromkeys(_gaps(turn, delivered=delivered, superseded=superseded)))


def _gaps(turn: Turn, *, delivered: bool, superseded: bool) -> Iterator[str]:
    if turn.tokens is None:
        yield "no_tokens"
    else:
        yield from turn.tokens.gaps
    if turn.outcome in ("failed", "refused"):
        yield "not_answered"
    elif superseded:
        yield "superseded"
    elif not delivered:
        yield "client_disconnected_before_end"
    if turn.rewritten:
        yield "rewritten_response"


def unknown_of(turn: Turn) -> tuple[str, ...]:
    """Return the names of the unknown values of a turn's tokens."""
    if (tokens := turn.tokens) is None:
        return ()
    asked = (
        ("policy_version_unknown", tokens.policy_version),
        ("temperature_unknown", tokens.temperature),
        ("stop_unknown", tokens.stop_included),
    )
    return tuple([name for name, value in asked if value is None])
