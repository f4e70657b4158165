"""`--live` and `--view` of `triocept fleet`: show the rollouts of all workers while they run.

Rules:

1. Workers may run on other machines, so the rollouts are read from the trace files that the workers write into the
   store. A call is shown when it has arrived, and its answer when the call's turn is recorded.
2. Trace files that were in the store before the command started are not read.
3. If a file cannot be read, or the display raises an error, the fleet and its rollouts continue.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import trio

from .._canonical.content import Json
from .._canonical.price import Price
from .._trace.entries import AgentStart, Opening
from .._trace.lines import AgentLine, IntentLine, Line, OtherLine, ScoreLine, SealLine, ServiceLine, TurnLine
from .._trace.reader import entry_of, score_of
from .._trace.trace import Trace, TraceWriter
from .._tracefiles.follow import GrowingTraces
from .._util.terminal import say
from .._view.live import LiveView
from ..errors import StoreError
from ..fleets import Fleet, WorkerDied
from ..fleets.progress import Words
from ..fleets.store.reading import trace_files
from ..fleets.store.recording import file_start
from ..traces import (
    AgentStarted,
    CallArrived,
    RolloutEnded,
    RolloutEvent,
    RolloutOpened,
    Scored,
    ServiceCalled,
    TurnLost,
    TurnSettled,
)
from .ending import describe_error
from .live_table import LiveTable
from .scores import evaluation_of, runs_of, tasks_document

if TYPE_CHECKING:
    from rich.table import Table

EVERY = 0.25
"""Seconds between two reads of the trace files."""
TASKS_EVERY = 1.0
"""Minimum seconds between two reads of an evaluation's results."""
_SLICE = 0.005
"""Maximum seconds in which lines are handled without a checkpoint of trio."""


@final
class WordsWithTable(Words):
    """The progress display of a fleet, with the table of the fleet's rollouts below its texts."""

    def __init__(self, table: LiveTable) -> None:
        self.below: Callable[[int, int], Table] = table.picture  # type: ignore[assignment]


@asynccontextmanager
async def serve_view(wanted: bool, title: str) -> AsyncIterator[LiveView | None]:
    """Serve a page that shows the rollouts of a fleet, and print the page's URL. If not `wanted`, only yield None."""
    if not wanted:
        await trio.lowlevel.checkpoint()
        yield None
        return
    from .._view.recorded import serve_source  # imported here, because only the page needs a web server

    view = LiveView(title)
    view.can_decide = False
    async with serve_source(view, host="127.0.0.1", port=0) as url:
        say(f"▸ view     {url}")
        yield view


@asynccontextmanager
async def followed_store(
    fleet: Fleet,
    store: Path,
    prices: Mapping[str, Price] | None,
    table: LiveTable | None,
    view: LiveView | None,
) -> AsyncIterator[None]:
    """While the block runs, send events of the rollouts that the fleet records in the store to `table` and `view`."""
    if table is None and view is None:
        await trio.lowlevel.checkpoint()
        yield
        return
    follower = _Follower(store, prices, [each.take for each in (view, table) if each is not None], view)

    over = trio.Event()
    until_over = trio.CancelScope()

    async def follow() -> None:
        due = -inf
        while not over.is_set():
            await follower.look()
            due = await _show_tasks(view, store, due)
            with trio.move_on_after(EVERY):
                await over.wait()
        await follower.look()  # the last lines
        await _show_tasks(view, store, -inf)

    async def end_dead() -> None:
        with until_over, fleet.events() as events:
            async for event in events:
                if isinstance(event, WorkerDied):
                    follower.lose(event.worker)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            nursery.start_soon(end_dead)
            yield
            over.set()
            until_over.cancel()
    finally:
        follower.close()


async def _show_tasks(view: LiveView | None, store: Path, due: float) -> float:
    """Show the tasks of an evaluation on the page if the time `due` has come; return the time for the next update.

    An update reads the whole store. So the pause before the next update is longer than an update takes.
    """
    began = trio.current_time()
    if view is None or began < due:
        return due
    runs = runs_of(view)

    def read() -> dict[str, Json] | None:
        results = evaluation_of(store)
        return None if results is None else tasks_document({store: results}, runs)

    with suppress(StoreError, OSError):  # the next update reads the store again
        if (document := await trio.to_thread.run_sync(read)) is not None:
            view.show_tasks(document)
    return trio.current_time() + max(TASKS_EVERY, 20 * (trio.current_time() - began))


@final
class _Follower:
    """Reads the trace files of a store, and sends an event for each line that a worker adds to one of these files."""

    def __init__(
        self,
        store: Path,
        prices: Mapping[str, Price] | None,
        receivers: list[Callable[[RolloutEvent], None]],
        view: LiveView | None,
    ) -> None:
        self._store = store
        self._prices = prices
        self._receivers = receivers
        self._view = view
        self._known = {path.name for path in trace_files(store)}
        self._files: dict[str, GrowingTraces] = {}
        self._dead: set[str] = set()
        """Names of the trace files of workers that have died."""
        self._open: dict[str, dict[str, Trace]] = {}
        """By the name of each trace file: the rollouts in it that have not ended, by their `Trace.run`."""

    def lose(self, worker: str) -> None:
        """Record that `worker` is dead, so that the next call of `look` ends the rollouts in its trace files."""
        self._find()
        self._dead.update(name for name in self._files if name.startswith(file_start(worker)))

    async def look(self) -> None:
        """Read the lines that were added to the trace files since `look` last ran, and send their events."""
        self._find()
        dead = {*self._dead}  # copied now, because the last lines of these files are read below
        while found := await trio.to_thread.run_sync(_read, [*self._files.items()]):
            for name, lines in found.items():
                try:
                    if isinstance(lines, OSError):
                        raise lines
                    await self._take_lines(name, lines)
                except Exception as exc:  # noqa: BLE001 - an error of the display must not end the fleet
                    why = describe_error(exc).removeprefix("Error: ")
                    say(f"▸ the rollouts in {name} are not shown any more: {why}")
                    self._forget(name)
        for name in dead & self._files.keys():
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Stop reading a trace file, and send an event that ends each of its open rollouts."""
        self._files.pop(name).close()
        for trace in self._open.pop(name).values():
            self._end(trace, "the rollout's worker has ended")

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _find(self) -> None:
        paths: list[Path] = []
        with suppress(OSError):  # the store was removed
            paths = trace_files(self._store)
        for path in paths:
            if path.name not in self._known:
                self._known.add(path.name)
                self._files[path.name] = GrowingTraces(path, lambda damage: None, self._prices)
                self._open[path.name] = {}

    async def _take_lines(self, name: str, lines: list[bytes]) -> None:
        due = trio.current_time() + _SLICE
        file, runs = self._files[name], self._open[name]
        for data in lines:
            for line, trace in file.take(data):
                if trace.run not in runs and not isinstance(line, ScoreLine | SealLine):
                    self._begin(trace)
                    runs[trace.run] = trace
                self._take(line, trace, file)
                if isinstance(line, SealLine):
                    runs.pop(trace.run, None)
            if trio.current_time() > due:
                await trio.lowlevel.checkpoint()
                due = trio.current_time() + _SLICE

    def _take(self, line: Line | OtherLine, trace: Trace, file: GrowingTraces) -> None:
        match line:
            case AgentLine():
                self._send(AgentStarted, trace, agent=entry_of(AgentStart, line))
            case IntentLine():
                if (intent := file.intent(line)) is not None:
                    TraceWriter(trace).add(intent)
                    fields = {name: getattr(intent, name) for name in ("dialect", "request", "agent", "at")}
                    self._send(CallArrived, trace, exchange=line.call, **fields)
            case TurnLine():
                if len(trace) and trace[-1].id == line.call:
                    self._send(TurnSettled, trace, turn=trace[-1])
            case ServiceLine():
                self._send(ServiceCalled, trace, call=line.call)
            case ScoreLine():
                self._send(Scored, trace, score=score_of(line))
            case SealLine():
                self._end(trace, trace.stopped)
            case _:
                pass

    def _begin(self, trace: Trace) -> None:
        if self._view is not None:
            self._view.opened(trace)
        opening = Opening(rollout=trace.rollout, run=trace.run, at=time.time(), metadata={**trace.metadata})
        self._send(RolloutOpened, trace, opening=opening)

    def _end(self, trace: Trace, stopped: str | None) -> None:
        for call in trace.pending:
            self._send(TurnLost, trace, exchange=call.id, error="lost")
        self._send(RolloutEnded, trace, ended=trace.ended, stopped=stopped, turns=len(trace))

    def _send(self, kind: type[RolloutEvent], trace: Trace, **fields: Any) -> None:
        common = {"number": 0, "at": time.time(), "clock": trio.current_time()}
        event = kind(rollout=trace.rollout, run=trace.run, **common | fields)
        for take in self._receivers:
            take(event)


def _read(files: list[tuple[str, GrowingTraces]]) -> dict[str, list[bytes] | OSError]:
    """Return the new lines of each file, or the error, by the file's name. Leave out files without new lines.

    This function is called in a worker thread.
    """
    found: dict[str, list[bytes] | OSError] = {}
    for name, file in files:
        try:
            if lines := file.read():
                found[name] = lines
        except OSError as exc:
            found[name] = exc
    return found
