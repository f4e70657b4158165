"""An answer on its way from whoever gives it to the connections that wait for it.

One producer, many readers, each from the start: an agent that re-sends its call while the answer still runs reads
the same answer.

Rules:

1. Nothing is lost by cancellation: a reader that is cancelled while it waits has taken nothing.
2. Back-pressure: `put` waits until the fastest reader has taken all. With no reader it does not wait.
3. The outcome comes last, once, and without a wait. It is what ends every reader.
4. The increments of an answer that was delivered are dropped with its last reader: the outcome has the whole.
5. A connection that waits, and can write without waiting, is given an increment (or the end) on the spot, before it
   is woken: a turn or two of the event loop less for each.
6. A provider's own bytes may stand beside the increments (`Relayed`), for connections in that provider's dialect.
   Such a connection may be given them before anybody has read them (`write_early`); the increment follows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Protocol, TypeAlias

import msgspec
import trio

from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, ResponseEnd, ResponseStart
from .bell import Bell
from .outcome import Outcome

__all__ = [
    "REST",
    "SILENCE",
    "Alarm",
    "ClientGone",
    "Entry",
    "EventLog",
    "EventReader",
    "Relayed",
    "Writer",
    "acquire",
    "weight_of",
]


class ClientGone(Exception):
    """The client has hung up."""


class Relayed(msgspec.Struct, frozen=True, gc=False):
    """Several increments that go on as one: a piece of a provider's stream, or what was held back until the end."""

    data: bytes | None
    """Whole frames in the agent's own dialect, as the provider sent them: for a connection that asked for a stream.
    None: nobody has written it yet."""
    events: tuple[Event, ...]
    """What it says: perhaps nothing."""

    @property
    def last(self) -> bool:
        """Whether the answer ends with it."""
        return bool(self.events) and isinstance(self.events[-1], ResponseEnd)

    @property
    def start(self) -> ResponseStart | None:
        """The beginning of the answer, if it is in here."""
        return next((event for event in self.events if isinstance(event, ResponseStart)), None)


Entry: TypeAlias = Event | Relayed

REST = Relayed(b"", ())
"""No increment: what was written before is to be sent to its end."""
SILENCE = Relayed(b"", ())
"""No increment either: none has come for a while."""


_encode = msgspec.json.Encoder().encode
_EVENT = 200
"""Bytes that an event takes in memory, beside its text: a token is often four of them."""


def weight_of(entry: Entry) -> int:
    """About how many bytes an increment keeps."""
    match entry:
        case PartDelta():
            return _EVENT + len(entry.text)
        case PartBlob():
            return _EVENT + len(entry.blob.data)
        case Relayed(data=data):
            return _EVENT * len(entry.events) + len(data) if data else sum(map(weight_of, entry.events))
        case PartEnd():
            return _EVENT
        case _:  # one of a part, or of an answer; all of an opaque part is in its start
            return _EVENT + len(_encode(entry))


class Writer(Protocol):
    """Writes an answer to a connection without waiting, as far as that can be done."""

    def write_now(self, entry: Entry) -> bool:
        """Write an increment; False: it was not written, and whoever reads has to do it."""

    def write_early(self, data: bytes) -> bool:
        """Write the bytes of an increment that is not known yet, on the conditions of `write_now`."""

    def finish_now(self) -> bool:
        """Write the end, the last increment with it. False: whoever reads has to do that, or the rest of it."""


class Alarm(Protocol):
    """A connection's one timer, which costs less than a cancel scope for each wait."""

    def set(self, seconds: float, ring: Callable[[], None]) -> None:
        """Call `ring` in so many seconds, and forget what was set before."""


async def acquire(lock: trio.Lock) -> None:
    """Take a lock; where it is free, without the checkpoint that `lock.acquire` makes of it."""
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()


class EventLog:
    """The increments of one answer, then its outcome.

    Args:
        response_id: the id that the answer has unless whoever gives it says otherwise in time.
        request_id: the id of the call, which the head of its answer has.
    """

    def __init__(self, response_id: str = "", request_id: str = "") -> None:
        self.response_id = response_id
        self.request_id = request_id
        self.announced = False
        """Whether some agent was told `response_id` already: the answer must have it then."""
        self.entries: list[Entry] = []
        self.headers: Mapping[str, str] = {}
        """What the head of the answer says beside: a provider's request id, its rate limits; set before the first
        entry."""
        self.outcome: Outcome | None = None
        self.delivered = False
        """Whether some reader has written all of it to its connection."""
        self.on_wait: Callable[[bool], None] | None = None
        """Told when an increment begins to wait for a connection, and when that is over."""
        self._readers: set[EventReader] = set()
        self._arrival = Bell()
        self._progress = Bell()

    @property
    def attended(self) -> bool:
        """Whether anybody reads."""
        return bool(self._readers)

    def open_reader(self) -> EventReader:
        reader = EventReader(self)
        self._readers.add(reader)
        return reader

    async def put(self, entry: Entry) -> None:
        """Add an increment, and wait until a reader has taken it.

        Cancellation: the increment stays; only the wait is cut short.
        """
        self.entries.append(entry)
        if not self._pass_on(entry):
            self._arrival.ring()
        await self._until(lambda: any(reader.at == len(self.entries) for reader in self._readers))

    def write_early(self, data: bytes) -> bool:
        """Let the one connection that waits write the bytes of the increment that is put next; whether it did."""
        reader = self._only_reader()
        return reader is not None and reader._write_early(data, len(self.entries))

    def _pass_on(self, entry: Entry) -> bool:
        """Let the one connection that waits write it; whether it could."""
        reader = self._only_reader()
        if reader is None or not reader._write_at_once(entry, len(self.entries)):
            return False
        if reader.stalled:
            self._arrival.ring()
        return True

    def end(self, outcome: Outcome, last: Entry | None = None) -> None:
        """The outcome, after one last increment."""
        if last is not None:
            self.entries.append(last)
        self.outcome = outcome
        if (reader := self._only_reader()) is not None:
            self.delivered = reader._finish_at_once(len(self.entries))
        self._arrival.ring()
        self._progress.ring()

    def _only_reader(self) -> EventReader | None:
        """The one connection that reads, where it is one."""
        return next(iter(self._readers)) if len(self._readers) == 1 else None

    async def wait_delivered(self) -> None:
        """Until the answer was written to a connection, or nobody waits for it any more."""
        await self._until(lambda: self.delivered)

    async def _until(self, done: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if done() or not self._readers:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        if self.on_wait is not None:
            self.on_wait(True)
        try:
            while not done() and self._readers:
                await self._progress.wait()
        finally:
            if self.on_wait is not None:
                self.on_wait(False)


class EventReader:
    """One connection's place in the answer."""

    def __init__(self, log: EventLog) -> None:
        self.at = 0
        self.delivered = False
        """Set by the connection when it has written the end of the answer."""
        self.writer: Writer | None = None
        """Set by a connection that may be able to write without waiting."""
        self.alarm: Alarm | None = None
        """Set by a connection that has one."""
        self.fault: Exception | None = None
        """Set by a connection that could not write the answer, through no fault of its client."""
        self.interrupt: Callable[[], None] | None = None
        """Ends what the connection waits for elsewhere, when the client has hung up."""
        self.stalled = False
        """Set by `writer`: something of what it wrote is still to be sent. `next` gives `REST` then."""
        self.written_at = -inf
        """When `writer` has last written: by trio's clock."""
        self._waiting = False
        self._early = False  # whether the increment that is put next was written
        self._gone = False
        self._rang = False
        self._log = log

    @property
    def request_id(self) -> str:
        """The id of the call; empty where no exchange has it."""
        return self._log.request_id

    @property
    def headers(self) -> Mapping[str, str]:
        """What the head of the answer says beside."""
        return self._log.headers

    async def next(self) -> Entry | None:
        """The next increment, or None where only the outcome is left. No schedule point if it is there.

        Raises:
            ClientGone: by `hang_up`.

        Cancellation: nothing is taken.
        """
        log = self._log
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.at == len(log.entries):
            if self._gone:
                raise ClientGone
            if self.stalled:
                self.stalled = False
                return REST
            if log.outcome is not None:
                return None
            if self._rang:
                self._rang = False
                return SILENCE
            await self._wait()
        entry = log.entries[self.at]
        self.at += 1
        log._progress.ring()
        return entry

    async def next_within(self, seconds: float) -> Entry | None:
        """As `next`; `SILENCE` where nothing has come for so many seconds."""
        if self.alarm is None:
            with trio.move_on_after(seconds):
                return await self.next()
            return SILENCE
        self._rang = False
        self.alarm.set(seconds, self._ring)
        return await self.next()

    def _ring(self) -> None:
        self._rang = True
        self._log._arrival.ring()

    def hang_up(self) -> None:
        """The client has hung up, or will not be waited for any longer."""
        self._gone = True
        self._log._arrival.ring()
        if self.interrupt is not None:
            self.interrupt()

    async def _wait(self) -> None:
        self._waiting = True
        try:
            await self._log._arrival.wait()
        finally:
            self._waiting = False

    def _write_early(self, data: bytes, count: int) -> bool:
        """Write the bytes of the increment that comes behind `count` others, if that is the one that is waited for."""
        if not self._waiting or self.stalled or self._gone or self.writer is None or self.at != count:
            return False
        self._early = self.writer.write_early(data)
        if self._early:
            self.written_at = trio.current_time()
        return self._early

    def _write_at_once(self, entry: Entry, count: int) -> bool:
        """Write the last of `count` increments, if that is the one that is waited for."""
        if self._early:
            self._early, self.at = False, count
            return True
        if not self._waiting or self.stalled or self.writer is None or self.at != count - 1:
            return False
        if self.writer.write_now(entry):
            self.at = count
            self.written_at = trio.current_time()
            return True
        return False

    def _finish_at_once(self, count: int) -> bool:
        """Write the end, if it is what is waited for; whether all of it is out."""
        if not self._waiting or self.stalled or self._gone or self.writer is None or self.at < count - 1:
            return False
        self.delivered = self.writer.finish_now()
        return self.delivered

    @property
    def unread(self) -> Entry | None:
        """The one increment that `next` has not given yet; None where there are more, or none."""
        entries = self._log.entries
        return entries[-1] if self.at == len(entries) - 1 else None

    def announce(self) -> str:
        """The id that the answer will have, for an agent that must be told before it has begun."""
        self._log.announced = self._log.announced or not self._log.entries
        return self._log.response_id

    @property
    def outcome(self) -> Outcome:
        """How it ended; to be asked when `next` has given None."""
        assert self._log.outcome is not None, "the answer has not ended"
        return self._log.outcome

    def close(self) -> None:
        """This connection is done with the answer, whether all of it was written or not.

        It lets go of the connection, too: a cycle would keep a whole request until the garbage collector comes.
        """
        self.writer = self.alarm = self.interrupt = None
        self._log.delivered |= self.delivered
        self._log._readers.discard(self)
        if self._log.delivered and not self._log._readers:
            self._log.entries.clear()
        self._log._progress.ring()
