"""What happens in a fleet, told as it happens.

Rules:

1. Who tells never waits. A reader has a buffer of its own; what does not fit in is counted, and the reader is told how
   many it missed, where they are missing.
2. An event holds no task, no value and no trace: what waits to be read is small.
3. The sum of what is told is true: each sample that was started ends, or is in the `unfinished` of its map's end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, final

import msgspec
import trio

OutcomeName: TypeAlias = Literal["value", "error", "lost", "stopped"]
"""What a task's outcome is, in a word."""


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    at: float = msgspec.field(default_factory=time.time)
    """When, in seconds since 1970."""


class WorkerStarted(_Event, frozen=True, kw_only=True, tag=True):
    """A worker is ready: one of the first, one more, or one in the place of one that died."""

    worker: str


class WorkerDied(_Event, frozen=True, kw_only=True, tag=True):
    """A worker died, or hung and was killed."""

    worker: str
    reason: str


class WorkerGivenUp(_Event, frozen=True, kw_only=True, tag=True):
    """A worker's place stays empty: nobody can be started there any more."""

    worker: str
    reason: str


class WorkerLeft(_Event, frozen=True, kw_only=True, tag=True):
    """A worker gets no more calls, and ends with its last one: the fleet was made smaller, or ends."""

    worker: str


class FleetResized(_Event, frozen=True, kw_only=True, tag=True):
    """`fleet.resize` was called."""

    workers: int
    """How many there are to be."""


class _OfMap(_Event, frozen=True, kw_only=True):
    map: int
    """Which map of the fleet, from 0."""


class MapStarted(_OfMap, frozen=True, kw_only=True, tag=True):
    """A map begins."""

    function: str
    """The name of its function."""
    total: int | None
    """How many outcomes it will have, samples counted. None: its tasks do not say how many they are."""


class MapEnded(_OfMap, frozen=True, kw_only=True, tag=True):
    """A map has ended: each of its tasks has its outcome, or it was left, or no worker was there any more."""

    unfinished: int
    """How many tasks or samples were started, and have no outcome."""


class TaskSkipped(_OfMap, frozen=True, kw_only=True, tag=True):
    """The store has outcomes of this task from an earlier run."""

    task: int
    """Its place among the tasks."""
    count: int
    """How many outcomes: samples, where there are groups."""


class _OfTask(_OfMap, frozen=True, kw_only=True):
    number: int
    """`result.number`."""
    group: int | None
    """`result.group`."""
    sample: int
    """`result.sample`."""
    attempt: int
    """Which try, from 1; 0 of what was stopped before it began."""
    worker: str
    """Whose."""


class TaskStarted(_OfTask, frozen=True, kw_only=True, tag=True):
    """A task, or a sample of one, runs on a worker: for the first time, or again."""


class TaskRequeued(_OfTask, frozen=True, kw_only=True, tag=True):
    """Its worker died, and it will run again."""

    reason: str


class TaskRetried(_OfTask, frozen=True, kw_only=True, tag=True):
    """Its function raised what `retry_if` tries again."""

    reason: str


class TaskEnded(_OfTask, frozen=True, kw_only=True, tag=True):
    """It has its outcome; whoever reads the results may not have seen it yet."""

    outcome: OutcomeName
    reason: str = ""
    """Of an error its class and text, of what was lost how."""
    seconds: float = 0.0
    """Since it was first started."""
    turns: int = 0
    """Of its rollouts, of the last attempt; so are the tokens."""
    input_tokens: int = 0
    output_tokens: int = 0


class EventsMissed(_Event, frozen=True, kw_only=True, tag=True):
    """The reader was slow: so many events stood here, and did not fit into its buffer."""

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
    """The events of a fleet: `async for event in events`. It ends with the fleet. Made by `Fleet.events` only."""

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._events: deque[FleetEvent] = deque()
        self._missed = 0
        self._over = False
        self._arrived = trio.Event()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> FleetEvent:
        """The next one.

        Raises:
            StopAsyncIteration: the fleet has ended.

        Cancellation: no event is lost by it.
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
        """Take one, if there is room; behind one that was missed, none until that is told."""
        if self._missed or len(self._events) >= self._buffer:
            self._missed += 1
        else:
            self._events.append(event)
        self._tell()

    def close(self) -> None:
        """Nothing comes any more."""
        self._over = True
        self._tell()

    def _tell(self) -> None:
        self._arrived.set()
        self._arrived = trio.Event()


@final
class Observers:
    """Who is told what happens in a fleet."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[FleetEvent], None]] = []
        self._streams: set[EventStream] = set()
        self._over = False

    def listen(self, listener: Callable[[FleetEvent], None]) -> None:
        """Have a function of ours called with each event: one that does not wait, and does not raise."""
        self._listeners.append(listener)

    def tell(self, event: FleetEvent) -> None:
        """Something happened."""
        for listener in self._listeners:
            listener(event)
        for stream in self._streams:
            stream.add(event)

    @contextmanager
    def events(self, buffer: int) -> Iterator[EventStream]:
        """What is told while the body runs."""
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
        """Nothing happens any more."""
        self._over = True
        for stream in self._streams:
            stream.close()
