"""What is collected of a piece of a program: the rollouts that it opens, in its tasks too.

A context variable: whoever runs others' functions (a fleet) hands their traces on, and has them recorded in a file of
its own; and they say nothing of it, whatever endpoint they open them on, and whatever recorder that has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from .._canonical.content import Json
from .._trace.recorder import Recorder
from .._trace.trace import Trace
from .recorder_group import RecorderGroup

_collector: ContextVar[Collector | None] = ContextVar("triocept_collector", default=None)


class Collector:
    """Who collects.

    Args:
        recorder: gets all of each rollout, before its own recorder does.
        metadata: goes into each rollout's, which wins.
    """

    def __init__(self, recorder: Recorder | None = None, metadata: Mapping[str, Json] | None = None) -> None:
        self._recorder = recorder
        self._metadata = dict(metadata or {})
        self._above = _collector.get()
        """Who collects around it: a function that is run by a fleet may run one."""
        self.traces: list[Trace] = []
        """In the order in which their rollouts were opened."""

    def add(self, trace: Trace) -> None:
        """A rollout was opened."""
        self.traces.append(trace)
        if self._above is not None:
            self._above.add(trace)

    @property
    def metadata(self) -> dict[str, Json]:
        return self._metadata if self._above is None else self._above.metadata | self._metadata

    def beside(self, own: Recorder | None) -> Recorder | None:
        """The recorder of a rollout whose own is this one."""
        recorders = [*self._recorders(), *([] if own is None else [own])]
        return RecorderGroup(recorders) if len(recorders) > 1 else next(iter(recorders), None)

    def _recorders(self) -> list[Recorder]:
        above = [] if self._above is None else self._above._recorders()
        return above if self._recorder is None else [*above, self._recorder]


@contextmanager
def collect_traces(to: Collector | None = None) -> Iterator[list[Trace]]:
    """The traces of the rollouts that are opened within."""
    to = to or Collector()
    token = _collector.set(to)
    try:
        yield to.traces
    finally:
        _collector.reset(token)


def collector() -> Collector | None:
    """Who collects here."""
    return _collector.get()
