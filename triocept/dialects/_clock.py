"""The time in a rendered answer: the current time, or the original time of an answer that is rendered later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_answered_at: ContextVar[float | None] = ContextVar("answered_at", default=None)


def answer_time() -> float:
    """Return the time of the answer that is rendered, in seconds since the epoch."""
    known = _answered_at.get()
    return time.time() if known is None else known


@contextmanager
def answered_at(seconds: float) -> Iterator[None]:
    """Render answers of this time within the block, which must not await."""
    token = _answered_at.set(seconds)
    try:
        yield
    finally:
        _answered_at.reset(token)
