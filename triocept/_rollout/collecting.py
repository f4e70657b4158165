"""Collectors of traces: a collector gets the trace of each rollout that is opened within a `with` block.

The current collector is stored in a context variable, so it also applies to tasks that are started within the block. A
fleet uses a collector to get the traces of all rollouts that its functions open, and records these traces in the
fleet's own file. The functions need no code for this, and may use any endpoint and any recorder.
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
    """A collector of the traces of rollouts. If the collector has a recorder, this recorder records the rollouts, too.

    Args:
        recorder: receives each rollout before the rollout's own recorder does.
        metadata: added to each rollout's own metadata. If both contain the same key, the trace contains the rollout's
            value.
    """

    def __init__(self, recorder: Recorder | None = None, metadata: Mapping[str, Json] | None = None) -> None:
        self._recorder = recorder
        self._metadata = dict(metadata or {})
        self._above = _collector.get()
        """The collector of the surrounding `collect_traces` block, or None. Blocks are nested if a function in a fleet
        itself runs a fleet."""
        self.traces: list[Trace] = []
        """Traces of the rollouts, in the order in which the rollouts were opened."""

    def add(self, trace: Trace) -> None:
        self.traces.append(trace)
        if self._above is not None:
            self._above.add(trace)

    @property
    def metadata(self) -> dict[str, Json]:
        return self._metadata if self._above is None else self._above.metadata | self._metadata

    def beside(self, own: Recorder | None) -> Recorder | None:
        """Return a recorder that passes records to the collectors' recorders, then to the rollout's own recorder `own`.

        Return None if there is no recorder.
        """
        recorders = [*self._recorders(), *([] if own is None else [own])]
        return RecorderGroup(recorders) if len(recorders) > 1 else next(iter(recorders), None)

    def _recorders(self) -> list[Recorder]:
        above = [] if self._above is None else self._above._recorders()
        return above if self._recorder is None else [*above, self._recorder]


@contextmanager
def collect_traces(to: Collector | None = None) -> Iterator[list[Trace]]:
    """Collect the traces of the rollouts that are opened within the `with` block, in `to` or in a new collector."""
    to = to or Collector()
    token = _collector.set(to)
    try:
        yield to.traces
    finally:
        _collector.reset(token)


def collector() -> Collector | None:
    return _collector.get()
