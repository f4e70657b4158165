"""The creation time that a dialect writes into an answer: the current time, or the original time of a stored answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_answered_at: ContextVar[float | None] = ContextVar("answered_at", default=None)


def answer_time() -> float:
    """Return the creation time to write into an answer, in seconds since the epoch."""
    known = _answered_at.get()
    return time.time() if known is None else known


@contextmanager
def answered_at(seconds: float) -> Iterator[None]:
    """Make `answer_time` return `seconds` within the `with` block. The block must not await."""
    token = _answered_at.set(seconds)
    try:
        yield
    finally:
        _answered_at.reset(token)
