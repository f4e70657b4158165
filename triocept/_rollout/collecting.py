"""Which traces a piece of a program has made: those of the rollouts that it opens, in its tasks too.

A context variable: whoever runs others' functions (a fleet) hands their traces on, and they say nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .._trace.trace import Trace

__all__ = ["collect", "collect_traces"]

_traces: ContextVar[list[Trace] | None] = ContextVar("triocept_traces", default=None)


@contextmanager
def collect_traces() -> Iterator[list[Trace]]:
    """The traces of the rollouts that are opened within, in the order of their opening."""
    traces: list[Trace] = []
    token = _traces.set(traces)
    try:
        yield traces
    finally:
        _traces.reset(token)


def collect(trace: Trace) -> None:
    """A rollout was opened."""
    if (traces := _traces.get()) is not None:
        traces.append(trace)
