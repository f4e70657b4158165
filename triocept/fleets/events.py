"""Events of a fleet, which a program can read while the fleet runs.

Rules:

1. The fleet never waits for a reader of its events. Each reader has its own buffer. If the buffer is full, further
   events are dropped, and the reader gets one `EventsMissed` with the number of the dropped events.
2. An event contains no task, no return value and no trace, so that unread events need little memory.
3. For each task or sample that was started, the fleet sends one `TaskEnded`. If the map ends earlier, no `TaskEnded` is
   sent, but the task or sample is counted in `MapEnded.unfinished`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import msgspec
import trio

from .._util.failures import text_of
from .outcomes import Outcome, Result
from .packing import Spent

if TYPE_CHECKING:
    from .tasks import Call

OutcomeName: TypeAlias = Literal["value", "error", "lost", "stopped"]
"""Name of a task's outcome in events."""
OUTCOME_NAMES: dict[type, OutcomeName] = {
    Outcome.Value: "value",
    Outcome.Error: "error",
    Outcome.Lost: "lost",
    Outcome.Stopped: "stopped",
}
REASON_LENGTH = 500
"""Maximum characters of an event's `reason`."""


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    at: float = msgspec.field(default_factory=time.time)
    """Time of the event, in seconds since the epoch (1970)."""


class WorkerStarted(_Event, frozen=True, kw_only=True, tag=True):
    """A worker is ready to run calls: a first worker, an additional worker, or the replacement of a dead worker."""

    worker: str


class WorkerDied(_Event, frozen=True, kw_only=True, tag=True):
    """A worker died, or was killed because it did not answer."""

    worker: str
    reason: str


class WorkerGivenUp(_Event, frozen=True, kw_only=True, tag=True):
    """A dead worker is not replaced any more, because several workers in a row died early or failed to start."""

    worker: str
    reason: str


class WorkerLeft(_Event, frozen=True, kw_only=True, tag=True):
    """A worker gets no new calls from now on, because the fleet was made smaller or is closing. The worker will end."""

    worker: str


class FleetResized(_Event, frozen=True, kw_only=True, tag=True):
    """The program called `fleet.resize`."""

    workers: int
    """New number of workers."""


class _OfMap(_Event, frozen=True, kw_only=True):
    map: int
    """Index of the map among the maps of the fleet, from 0."""


class MapStarted(_OfMap, frozen=True, kw_only=True, tag=True):
    """The program called `Fleet.map` and entered its block, which started a map."""

    function: str
    """Name of the map's function."""
    total: int | None
    """Number of expected outcomes of the map, one for each sample. None if the number of tasks is unknown."""


class MapEnded(_OfMap, frozen=True, kw_only=True, tag=True):
    """A map has ended: all its tasks have outcomes, or its `async with` block was left, or no worker is alive."""

    unfinished: int
    """Number of tasks or samples that were started but have no outcome."""


class TaskSkipped(_OfMap, frozen=True, kw_only=True, tag=True):
    """A task, or one of its samples, is not run, because the store has its outcome from an earlier run."""

    task: int
    """Index of the task among the tasks of the map."""
    count: int
    """Number of stored outcomes: one, or one for each sample of the task."""


class _OfTask(_OfMap, frozen=True, kw_only=True):
    number: int
    """Index of the task or sample, as in `Result.number`."""
    group: int | None
    """Index of the task, as in `Result.group`; None if the map has no groups."""
    sample: int
    """Index of the sample in its group, as in `Result.sample`."""
    attempt: int
    """Number of the attempt, from 1; 0 for a sample that was stopped before its first attempt."""
    worker: str
    """Name of the worker."""


class TaskStarted(_OfTask, frozen=True, kw_only=True, tag=True):
    """A worker starts an attempt of a task, or of one of its samples."""


class TaskRequeued(_OfTask, frozen=True, kw_only=True, tag=True):
    """The worker that ran a task died. The task waits for a slot, and will run again."""

    reason: str


class TaskRetried(_OfTask, frozen=True, kw_only=True, tag=True):
    """The function raised an exception for which `retry_if` returned True. The task will run again."""

    reason: str


class TaskEnded(_OfTask, frozen=True, kw_only=True, tag=True):
    """A task or sample has its outcome. The program may not have read its result yet."""

    outcome: OutcomeName
    reason: str = ""
    """For an error, the class and text of the exception; for a lost task, the reason why its worker ended; otherwise
    empty."""
    seconds: float = 0.0
    """Seconds since the first attempt of the task began."""
    rollouts: int = 0
    """Number of rollouts in the last attempt; `turns` and the token counts are sums over these rollouts."""
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class EventsMissed(_Event, frozen=True, kw_only=True, tag=True):
    """At this point of the stream, `count` events are missing, because the reader's buffer was full."""

    count: int


FleetEvent: TypeAlias = (
    WorkerStarted
    | WorkerDied
    | WorkerGivenUp
    | WorkerLeft
    | FleetResized
    | MapStarted
    | MapEnded
    | TaskStarted
    | TaskRequeued
    | TaskRetried
    | TaskSkipped
    | TaskEnded
    | EventsMissed
)


@final
class EventStream:
    """The events of a fleet: `async for event in events` runs until the fleet ends. Made by `Fleet.events` only."""

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._events: deque[FleetEvent] = deque()
        self._missed = 0
        self._over = False
        self._arrived = trio.Event()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> FleetEvent:
        """Return the next event.

        Raises:
            StopAsyncIteration: the fleet has ended, and all its events were returned.

        Cancellation: no event is lost; the next call of this method returns it.
        """
        await trio.lowlevel.checkpoint()
        while not self._events and not self._missed:
            if self._over:
                raise StopAsyncIteration
            await self._arrived.wait()
        if self._events:
            return self._events.popleft()
        missed, self._missed = self._missed, 0
        return EventsMissed(count=missed)

    def add(self, event: FleetEvent) -> None:
        """Add `event` to the buffer. If the buffer is full, drop and count the event.

        After a dropped event, further events are dropped and counted, too, until the reader gets the `EventsMissed`.
        """
        if self._missed or len(self._events) >= self._buffer:
            self._missed += 1
        else:
            self._events.append(event)
        self._notify()

    def close(self) -> None:
        self._over = True
        self._notify()

    def _notify(self) -> None:
        self._arrived.set()
        self._arrived = trio.Event()


@final
class Observers:
    """The functions and the streams (`EventStream`) that receive each event of a fleet."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[FleetEvent], None]] = []
        self._streams: set[EventStream] = set()
        self._over = False

    def listen(self, listener: Callable[[FleetEvent], None]) -> None:
        """Call `listener` with each event from now on.

        `listener` is a function of triocept, and must not block or raise.
        """
        self._listeners.append(listener)

    def send(self, event: FleetEvent) -> None:
        for listener in self._listeners:
            listener(event)
        for stream in self._streams:
            stream.add(event)

    @contextmanager
    def events(self, buffer: int) -> Iterator[EventStream]:
        """Yield a stream of the events that the fleet sends while the `with` block runs."""
        stream = EventStream(buffer)
        self._streams.add(stream)
        if self._over:
            stream.close()
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            stream.close()

    def close(self) -> None:
        self._over = True
        for stream in self._streams:
            stream.close()


@final
class MapEvents:
    """Sender of the events of one map. `total` is the expected number of the map's outcomes; None if unknown."""

    def __init__(self, observers: Observers, map_number: int, function: str, total: int | None) -> None:
        self._observers = observers
        self._map = map_number
        self._function = function
        self._total = total
        self._started_at: dict[int, float] = {}
        """Start time of each task or sample that has no outcome yet, by its `Result.number`."""

    def map_started(self) -> None:
        self._observers.send(MapStarted(map=self._map, function=self._function, total=self._total))

    def map_ended(self) -> None:
        self._observers.send(MapEnded(map=self._map, unfinished=len(self._started_at)))

    def skipped(self, task: int, count: int) -> None:
        self._observers.send(TaskSkipped(map=self._map, task=task, count=count))

    def started(self, call: Call[Any]) -> None:
        self._started_at.setdefault(call.number, trio.current_time())
        self._observers.send(TaskStarted(**self._of(call)))

    def requeued(self, call: Call[Any], reason: str) -> None:
        self._observers.send(TaskRequeued(**self._of(call), reason=reason))

    def retried(self, call: Call[Any], error: BaseException) -> None:
        self._observers.send(TaskRetried(**self._of(call), reason=_words(error)))

    def ended(self, call: Call[Any], result: Result[Any, Any], spent: Spent) -> None:
        now = trio.current_time()
        reason = ""
        if isinstance(outcome := result.outcome, Outcome.Error):
            reason = _words(outcome.error)
        elif isinstance(outcome, Outcome.Lost):
            reason = outcome.reason
        event = TaskEnded(
            **self._of(call),
            outcome=OUTCOME_NAMES[type(outcome)],
            reason=reason,
            seconds=now - self._started_at.pop(call.number, now),
            rollouts=spent.rollouts,
            turns=spent.turns,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
        )
        self._observers.send(event)

    def _of(self, call: Call[Any]) -> dict[str, Any]:
        return {
            "map": self._map,
            "number": call.number,
            "group": call.group_number,
            "sample": call.sample,
            "attempt": call.attempt,
            "worker": call.worker,
        }


def _words(error: BaseException) -> str:
    text = " ".join(text_of(error).split())
    name = type(error).__name__
    return f"{name}: {text}"[:REASON_LENGTH] if text else name
