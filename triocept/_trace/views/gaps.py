"""The names of what a turn lacks for training.

Rules:

1. What is missing has a name, and its turn is not trained on; nothing is mended, and nothing made up.
2. What was checked when the tokens came (`Tokens.gaps`) is told as it was told then.
3. What nobody said (a temperature, a version of the weights) is no fault of the tokens: it is told beside.
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
"""What somebody may want to train on all the same: the tokens are what they say."""


def check_accepted(names: Collection[str]) -> None:
    """See whether these gaps can be accepted.

    Raises:
        TypeError: that is no collection of names.
        ValueError: one of them cannot: the ids, or the log probabilities, are not there.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"accept is a list of names of gaps, not {described(names)}")
    for name in names:
        if name not in ACCEPTABLE:
            raise ValueError(f"accept takes {', '.join(ACCEPTABLE)}, and not {name!r}")


def gaps_of(turn: Turn, *, delivered: bool, superseded: bool) -> tuple[str, ...]:
    """Why it should not be trained on; empty: nothing speaks against it."""
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
    """What nobody said of its tokens."""
    if (tokens := turn.tokens) is None:
        return ()
    asked = (
        ("policy_version_unknown", tokens.policy_version),
        ("temperature_unknown", tokens.temperature),
        ("stop_unknown", tokens.stop_included),
    )
    return tuple([name for name, value in asked if value is None])
