"""An answer in progress, between the task that produces it and the connections that wait for it.

An answer has one producer and many subscriptions, and each subscription starts at the beginning. An agent that
re-sends its call while the answer is in progress reads the same answer.

Rules:

1. The producer never checks whether a connection can send. It renders each increment immediately for each connection
   that is not full. A full connection renders the increment later, in its own task, after it has sent its pending bytes
   (`advance`).
2. Back-pressure: `put` waits until at least one connection has taken all increments. Without connections it does not
   wait.
3. The outcome is set once, after all increments, and without a wait. It ends every subscription.
4. The increments of a delivered answer are dropped with its last subscription: the outcome contains the whole answer.
5. A provider's own bytes may accompany the increments (`Relayed`), for connections in that provider's dialect. Such a
   connection may get the bytes before they are parsed (`write_early`). The increment with the parsed bytes follows
   immediately.
6. Raw bytes that are streamed are increments, too (`RawPiece`). An answer with raw bytes has no other increments.
7. If a connection's dialect cannot express an increment, the error belongs to that subscription, never to the producer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, final

import msgspec
import trio

from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, ResponseEnd, ResponseStart
from .._trace.raw import RawResponse
from .outcome import Outcome


class ClientGone(Exception):
    """The client has disconnected."""


class Relayed(msgspec.Struct, frozen=True, gc=False):
    """Several events that are sent as one increment: a piece of a provider's stream, or events held back to the end."""

    data: bytes | None
    """Whole frames in the agent's own dialect, as the provider sent them, for a connection that requested a stream.
    None if the frames are not rendered yet."""
    events: tuple[Event, ...]
    """The events in these bytes; may be empty."""

    @property
    def last(self) -> bool:
        """True if the answer ends with this increment."""
        return bool(self.events) and isinstance(self.events[-1], ResponseEnd)

    @property
    def start(self) -> ResponseStart | None:
        """The start of the answer. None if the start is not in this increment."""
        return next((event for event in self.events if isinstance(event, ResponseStart)), None)


class RawPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of a raw answer, sent before the next piece is made."""

    head: RawResponse
    """The response that the bytes are part of, without its body."""
    data: bytes
    """Bytes of the body; empty if only the head is sent."""


Increment: TypeAlias = Event | Relayed
Entry: TypeAlias = Increment | RawPiece

_encode = msgspec.json.Encoder().encode
_EVENT = 200
"""Approximate bytes of memory that an event takes, without its text. The text of a token often has only four bytes."""


def weight_of(entry: Entry) -> int:
    """Return the approximate bytes of memory of an increment."""
    match entry:
        case PartDelta():
            return _EVENT + len(entry.text)
        case RawPiece(data=data):
            return _EVENT + len(data)
        case PartBlob():
            return _EVENT + len(entry.blob.data)
        case Relayed(data=data):
            return _EVENT * len(entry.events) + len(data) if data else sum(map(weight_of, entry.events))
        case PartEnd():
            return _EVENT
        case _:  # events of a part or of an answer; an opaque part is contained in its start
            return _EVENT + len(_encode(entry))


class Delivery(Protocol):
    """A connection's rendering of an answer, with the bytes that are still to be sent. Only `flush` waits."""

    @property
    def full(self) -> bool:
        """True while bytes are still to be sent; the connection takes no further increments meanwhile."""

    @property
    def due(self) -> float:
        """Time, by trio's clock, at which a no-op must be sent, because the client has received nothing for long."""

    def write(self, entry: Entry) -> bool:
        """Render an increment. Return True if all bytes are sent and the connection takes more.

        Raises:
            DialectError: the connection's dialect cannot express the increment.
        """

    def write_early(self, data: bytes) -> bool:
        """Send the bytes of an increment that is not parsed yet. Return True if this connection can take them."""

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Render the last increments and the outcome before any of their bytes may be sent.

        Only a connection whose bytes are recorded renders them here.

        Raises:
            DialectError: the connection's dialect cannot express an increment.
        """

    def check_raw(self, raw: RawResponse) -> None:
        """Raise an error if this connection cannot send raw bytes.

        Raises:
            ValueError: the connection's dialect has no form for these bytes.
        """

    def end(self, outcome: Outcome) -> bool:
        """Render the outcome, with everything of the answer that is not rendered yet.

        Return True if all bytes are sent.
        """

    def break_silence(self, announce: Callable[[], str]) -> bool:
        """Send a no-op, so that the client does not give up. Return True if all bytes are sent.

        Args:
            announce: returns the id that the answer will have; called if the no-op contains the id.
        """

    def fail(self, error: Exception) -> bool:
        """Render an error for the client, and report it to the program, because the dialect cannot express this answer.

        Return True if all bytes are sent.
        """

    @property
    def wait(self) -> Callable[[Condition, float], Awaitable[None]]:
        """Function that waits for a condition, but at most until a time of trio's clock. Cancellation: immediate."""

    async def flush(self) -> None:
        """Send all pending bytes. Only the connection's own task calls this.

        Raises:
            ClientGone: the client has disconnected, or has stopped reading.
            DialectError: the connection's dialect cannot express an increment.

        Cancellation: aborts the connection.
        """


class Answer:
    """The increments of one answer, then its outcome.

    Args:
        response_id: the default id of the answer; the producer may set another id in time.
        request_id: the id of the call, which is sent in the head of its answer.
    """

    announced: bool = False
    """True if an agent received `response_id` before the first entry, so that the answer must keep this id."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Additional response headers, set before the first entry: a provider's request id, its rate limits."""
    began_at: float | None = None
    """Time of the first entry, by trio's clock. None if no entry was put."""
    outcome: Outcome | None = None
    delivered: bool = False
    """True if a connection has written the whole answer."""

    def __init__(self, response_id: str = "", request_id: str = "") -> None:
        self.response_id = response_id
        self.request_id = request_id
        self.entries: list[Entry] = []
        self.subscriptions: set[Subscription] = set()
        """The subscriptions that read the answer."""
        self._progress = Condition()

    @property
    def is_full(self) -> bool:
        """True if `put` would have to wait for a connection."""
        return bool(self.subscriptions) and not any(each.takes_more for each in self.subscriptions)

    async def put(self, entry: Entry) -> None:
        """Add an increment, and wait until a connection has taken it.

        Cancellation: the increment stays; only the wait ends early.
        """
        if self.began_at is None:
            self.began_at = trio.current_time()
        self.entries.append(entry)
        taken = not self.subscriptions
        for subscription in self.subscriptions:
            taken = subscription.advance() or taken
        if taken:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._until(lambda: any(each.at == len(self.entries) for each in self.subscriptions))

    def write_early(self, data: bytes) -> bool:
        """Send the next increment's bytes to the connection, if there is only one. Return True if it has taken them."""
        if len(self.subscriptions) != 1:
            return False
        return next(iter(self.subscriptions)).write_early(data)

    def prepare(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Let the connections render what `end` will write, so that their bytes can be recorded before."""
        for subscription in self.subscriptions:
            subscription.prepare([*self.entries, *([last] if last is not None else [])], outcome)

    def check_raw(self, raw: RawResponse) -> None:
        """Raise ValueError if a connection cannot send raw bytes."""
        for subscription in self.subscriptions:
            subscription.check_raw(raw)

    def end(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Set the outcome, after one last increment."""
        if last is not None:
            self.entries.append(last)
        self.outcome = outcome
        for subscription in self.subscriptions:
            subscription.advance()
            self.delivered = self.delivered or subscription.delivered
        self._progress.notify_all()

    async def wait_delivered(self) -> None:
        """Wait until the answer was written to a connection, or until no connection waits for it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.delivered or not self.subscriptions:
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._until(lambda: self.delivered)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and self.subscriptions:
            await self._progress.wait()


@final
class Subscription:
    """The position of one connection in the answer, starting at the beginning.

    The connection's task runs `follow`, and the producer calls `advance`.
    """

    at: int = 0
    """Number of increments written."""
    ended: bool = False
    """True if the outcome was written too."""
    delivered: bool = False
    """True if the whole answer was sent."""
    fault: Exception | None = None
    """The error because of which the connection could not write the answer, unless the client caused it."""
    _delivery: Delivery | None = None
    _full = False
    """True if the connection has bytes to flush."""
    _early = False
    """True if the next increment was already written."""
    _gone = False
    _error: Exception | None = None
    """The reason why the connection cannot express this answer, until it is reported."""
    _failed = False
    """True if such an error was reported to the client."""
    _flushing: trio.CancelScope | None = None

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._news = Condition()
        answer.subscriptions.add(self)

    @property
    def takes_more(self) -> bool:
        """True if the connection can write now: `follow` runs, all bytes are sent, and there is no error."""
        stopped = self._full or self._gone or self._failed or self._error is not None
        return self._delivery is not None and not stopped

    async def follow(self, delivery: Delivery) -> None:
        """Write the whole answer to the connection, with a no-op in each long pause, until everything is sent.

        Raises:
            ClientGone: raised by the connection, or after `hang_up`.

        Cancellation: during a flush, aborts the connection; during a wait, has no effect on it.
        """
        self._delivery, answer = delivery, self.answer
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if not self.ended and (answer.outcome is not None or self.at < len(answer.entries)):
                self.advance()
                answer._progress.notify_all()
            if self._error is not None:  # nothing else of the answer is sent
                error, self._error, self._failed = self._error, None, True
                self._full = not delivery.fail(error)
            if self._full:
                await self._flush(delivery)
            elif self._failed:
                return
            elif self.ended:
                break
            elif self._gone:
                raise ClientGone
            elif delivery.due > trio.current_time():
                await delivery.wait(self._news, delivery.due)
            else:
                try:
                    self._full = not delivery.break_silence(self._announce)
                except Exception as exc:
                    self._error = exc
        self.delivered = True

    def advance(self) -> bool:
        """Write the available increments while the connection takes more, then the outcome.

        Return True if all increments are taken.
        """
        delivery, answer = self._delivery, self.answer
        if delivery is None or self._full or self._gone or self._failed or self._error is not None:
            return False
        entries, begins = answer.entries, not self.at
        try:
            while self.at < len(entries) and not self._full:
                self.at += 1
                if self._early:
                    self._early = False
                else:
                    self._full = not delivery.write(entries[self.at - 1])
            if answer.outcome is not None and not self.ended and self.at == len(entries) and not self._full:
                self.ended = True
                self._full = not delivery.end(answer.outcome)
                self.delivered = not self._full
        except Exception as exc:
            self._error = exc
        # An answer that has begun has a shorter limit of silence: `due` is earlier now.
        if self._full or self.ended or self._error is not None or (begins and self.at):
            self._news.notify_all()
        return self.at == len(entries)

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Let the connection render the last increments and the outcome."""
        if self._delivery is None or self._gone or self._failed or self._error is not None:
            return
        try:
            self._delivery.prepare(entries[self.at + self._early :], outcome)
        except Exception as exc:
            self._error = exc
            self._news.notify_all()

    def check_raw(self, raw: RawResponse) -> None:
        """Raise ValueError if the connection cannot send raw bytes."""
        if self._delivery is not None:
            self._delivery.check_raw(raw)

    def write_early(self, data: bytes) -> bool:
        """Write the bytes of the next increment, if the connection waits for exactly this increment."""
        delivery = self._delivery
        if delivery is None or self._full or self._gone or self._failed or self._error is not None:
            return False
        self._early = self.at == len(self.answer.entries) and delivery.write_early(data)
        if delivery.full:
            self._full = True
            self._news.notify_all()
        return self._early

    def hang_up(self) -> None:
        """End `follow`, because the client has disconnected, or has not read its answer in time."""
        self._gone = True
        self._news.notify_all()
        if self._flushing is not None:
            self._flushing.cancel()

    def close(self) -> None:
        """Detach this connection from the answer, even if only a part was written.

        Drop the reference to the connection, too: a reference cycle would keep the whole request until the garbage
        collector runs.
        """
        self._delivery = None
        self.fault = self._error = None
        answer = self.answer
        answer.delivered |= self.delivered
        answer.subscriptions.discard(self)
        if answer.delivered and not answer.subscriptions:
            answer.entries.clear()
        answer._progress.notify_all()

    async def _flush(self, delivery: Delivery) -> None:
        if self._gone:
            raise ClientGone
        self._flushing = scope = trio.CancelScope()
        try:
            with scope:
                await delivery.flush()
                self._full = False
        except ClientGone:
            raise
        except Exception as exc:
            if self._failed:
                raise
            self._error = exc
        finally:
            self._flushing = None
        if scope.cancelled_caught:
            raise ClientGone

    def _announce(self) -> str:
        """Return the id that the answer will have, for an agent that needs it before the answer begins."""
        answer = self.answer
        answer.announced = answer.announced or not answer.entries
        return answer.response_id


@final
class Condition:
    """A condition that tasks wait for; all waiting tasks continue when it is notified.

    It is trio's `Condition` without the lock, because no other task runs here between a check and a wait. It is also
    `ParkingLot` with less state: every call has two conditions, and creating a lot costs as much as using it.
    """

    _tasks: list[trio.lowlevel.Task] | None = None

    async def wait(self) -> None:
        """Wait until notified. Cancellation: immediate, unless already notified."""
        task = trio.lowlevel.current_task()
        tasks = self._tasks = self._tasks or []
        tasks.append(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def notify_all(self) -> None:
        """Wake all tasks that wait now."""
        if self._tasks:
            tasks, self._tasks = self._tasks, None
            for task in tasks:
                trio.lowlevel.reschedule(task)
