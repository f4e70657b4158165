"""Pass an answer in progress from the task that produces it to the connections that wait for it.

An answer has one producer and one subscription for each connection. Each subscription starts at the beginning of the
answer. So if an agent re-sends its call while the answer is in progress, the agent reads the same answer.

Rules:

1. A connection is full while some of its rendered bytes are not sent yet. The producer's task renders each increment
   immediately for each connection that is not full. For a full connection, the connection's own task renders the
   increment later, after it has sent the earlier bytes (`advance`).
2. Back-pressure: `put` waits until at least one connection has taken all increments. If no connection waits for the
   answer, `put` does not wait.
3. The outcome is set once, after all increments. The function that sets the outcome does not wait. Every subscription
   then ends.
4. When the last subscription of a delivered answer is closed, the increments are dropped, because the outcome contains
   the whole answer.
5. A provider's own bytes may accompany the increments (`Relayed`), for connections in that provider's dialect. Such a
   connection may get the bytes before they are parsed (`write_early`). The increment with the parsed bytes follows
   immediately.
6. If raw bytes are sent piece by piece, the pieces are increments, too (`RawPiece`). An answer with raw bytes has no
   other increments.
7. If a connection's dialect cannot express an increment, only this connection fails; the producer gets no error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, final

import msgspec
import trio

from .._canonical.content import Text
from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from .._trace.raw import RawResponse
from .outcome import Outcome


class ClientGone(Exception):
    """Error: the client has disconnected, or has stopped reading its answer."""


class Relayed(msgspec.Struct, frozen=True, gc=False):
    """An increment of several events.

    These are the events in one piece of a provider's stream, the events that one `send` of a handler has caused, or the
    events of tool calls that were held back until the answer's end.
    """

    data: bytes | None
    """The provider's own bytes for these events: whole frames in the agent's dialect. If the agent requested a stream,
    its connection sends these bytes unchanged. If None, each connection renders the events."""
    events: tuple[Event, ...]
    """The events in `data`. If `data` is None: the events that each connection renders. May be empty."""

    @property
    def last(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], ResponseEnd)

    @property
    def start(self) -> ResponseStart | None:
        return next((event for event in self.events if isinstance(event, ResponseStart)), None)


class RawPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of an answer in raw bytes. A piece is sent before the next piece is produced."""

    head: RawResponse
    """The response to which this piece belongs, without its body."""
    data: bytes
    """Bytes of the body; empty if only the head is sent now."""


Increment: TypeAlias = Event | Relayed
Entry: TypeAlias = Increment | RawPiece

_encode = msgspec.json.Encoder().encode
_EVENT = 200
"""Approximate bytes of memory that an event takes, without its text. (The text of a token is often only four bytes.)"""


def weight_of(entry: Entry) -> int:
    """Return the approximate number of bytes of memory that an increment takes."""
    match entry:
        case PartDelta():
            return _EVENT + len(entry.text)
        case RawPiece(data=data):
            return _EVENT + len(data)
        case PartBlob():
            return _EVENT + len(entry.blob.data)
        case Relayed(data=data):
            return _EVENT * len(entry.events) + len(data) if data else sum(map(weight_of, entry.events))
        case PartEnd() | ResponseStart(extra=None) | ResponseEnd(extra=None):
            return _EVENT
        case PartStart(part=Text(text=text, extra=None)):
            return _EVENT + len(text)
        case _:  # starts and ends of parts and answers; the start of an opaque part contains the whole part
            return _EVENT + len(_encode(entry))


class Delivery(Protocol):
    """A connection that renders an answer in its dialect, and sends the bytes of the answer to the client.

    Only the methods `flush` and `wait` wait; all other methods return immediately.
    """

    @property
    def full(self) -> bool:
        """True while some rendered bytes are not sent yet. While it is True, the connection takes no increments."""

    @property
    def due(self) -> float:
        """Time, by trio's clock, at which the connection sends a keep-alive, so that its client does not time out."""

    @property
    def keepalive_every(self) -> float:
        """Seconds between an increment and the next keep-alive."""

    def write(self, entry: Entry) -> bool:
        """Render an increment.

        Return True if all bytes of the increment were sent, so that the next increment can be rendered.

        Raises:
            DialectError: the connection's dialect cannot express the increment.
        """

    def write_early(self, data: bytes) -> bool:
        """Send `data`, bytes of a provider that are not parsed into events yet. Return True if they were sent."""

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Render the last increments and the outcome, so that their bytes can be recorded before they are sent.

        If the traffic of the connection is not recorded, this method does nothing.

        Raises:
            DialectError: the connection's dialect cannot express an increment.
        """

    def check_raw(self, raw: RawResponse) -> None:
        """Check that this connection can send the raw response `raw`.

        Raises:
            ValueError: the connection cannot send `raw`. For example, a websocket cannot send an HTTP status.
        """

    def end(self, outcome: Outcome) -> bool:
        """Render every part of the answer that is not rendered yet, and the outcome.

        Return True if all bytes are sent.
        """

    def break_silence(self, announce: Callable[[], str]) -> bool:
        """Send a keep-alive (bytes without content), so that the client does not end the call by its time limit.

        Return True if all bytes are sent.

        Args:
            announce: returns the id that the answer will have. `announce` is called only if the keep-alive contains
                this id.
        """

    def fail(self, error: Exception) -> bool:
        """Send the client an error in place of the answer, and report `error` to the program.

        `error` is the reason why the connection's dialect cannot express the answer. Return True if all bytes are sent.
        """

    @property
    def wait(self) -> Callable[[Condition, float], Awaitable[None]]:
        """Function `(condition, time)` that waits until `condition` is notified, at most until `time` by trio's clock.

        Cancellation: immediate.
        """

    async def flush(self) -> None:
        """Wait until all pending bytes are sent. Only the task that serves the connection calls this method.

        Raises:
            ClientGone: the client has disconnected, or has stopped reading.
            DialectError: the connection's dialect cannot express an increment.

        Cancellation: aborts the connection.
        """


class Answer:
    """The increments of one answer, followed by the outcome of its exchange.

    Args:
        response_id: the default id of the answer. The producer may set another id before the first increment.
        request_id: the id of the call, which is sent in a response header of its answer.
    """

    announced: bool = False
    """True if an agent has received `response_id` before the first increment, so that the id cannot be changed any
    more."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Additional response headers, such as a provider's request id and rate limits. They are set before the first
    increment."""
    began_at: float | None = None
    """Time, by trio's clock, at which the answer got its first increment; None before that."""
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
        """True if a call of `put` would wait now, because no connection takes another increment."""
        return bool(self.subscriptions) and not any(each.takes_more for each in self.subscriptions)

    async def put(self, entry: Entry) -> None:
        """Add an increment, and wait until at least one connection has taken it.

        Cancellation: only the wait ends early. The increment is still sent.
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
        """Send `data`, the bytes of the next increment, before they are parsed. Return True if they were sent.

        The bytes can be sent early only if exactly one connection waits for the answer.
        """
        if len(self.subscriptions) != 1:
            return False
        return next(iter(self.subscriptions)).write_early(data)

    def prepare(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Let each connection render in advance the bytes that `end` will send, so that they can be recorded."""
        for subscription in self.subscriptions:
            subscription.prepare([*self.entries, *([last] if last is not None else [])], outcome)

    def check_raw(self, raw: RawResponse) -> None:
        for subscription in self.subscriptions:
            subscription.check_raw(raw)

    def end(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Add `last`, the last increment (if it is not None), and set the outcome.

        Every connection then ends its response.
        """
        if last is not None:
            self.entries.append(last)
        self.outcome = outcome
        for subscription in self.subscriptions:
            subscription.advance()
            self.delivered = self.delivered or subscription.delivered
        self._progress.notify_all()

    async def wait_delivered(self) -> None:
        """Wait until the whole answer is written to a connection, or until no connection waits for the answer."""
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
    """The position of one connection in an answer: the next increment that the connection writes.

    Each connection begins with the first increment.

    The connection's task runs `follow`, and the producer calls `advance`.
    """

    at: int = 0
    """Number of increments that were written to the connection."""
    ended: bool = False
    """True if the outcome was written to the connection."""
    delivered: bool = False
    """True if the whole answer was sent."""
    fault: Exception | None = None
    """The error that prevented the connection from writing the answer. None if there was no error, or if the client
    caused the error.
    """
    _delivery: Delivery | None = None
    _full = False
    """True if the connection has bytes to flush, so that it takes no increments."""
    _early = False
    """True if `write_early` has already written the bytes of the next increment."""
    _gone = False
    _error: Exception | None = None
    """The error that prevents the connection from sending this answer. None if there is no error, or after the client
    got an error response."""
    _failed = False
    """True if the connection has sent its client an error in place of the answer."""
    _flushing: trio.CancelScope | None = None
    _until = inf
    """Time, by trio's clock, until which `follow` waits for an increment or the outcome."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._news = Condition()
        answer.subscriptions.add(self)

    @property
    def takes_more(self) -> bool:
        stopped = self._full or self._gone or self._failed or self._error is not None
        return self._delivery is not None and not stopped

    async def follow(self, delivery: Delivery) -> None:
        """Write the whole answer to the connection, with a keep-alive in each long pause.

        Return when the whole answer is sent.

        Raises:
            ClientGone: the client has disconnected, or `hang_up` was called.

        Cancellation: aborts the connection if bytes are being sent; otherwise leaves the connection unchanged.
        """
        self._delivery, answer = delivery, self.answer
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if not self.ended and (answer.outcome is not None or self.at < len(answer.entries)):
                self.advance()
                answer._progress.notify_all()
            if self._error is not None:  # after an error, nothing else of the answer is sent
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
            elif (due := delivery.due) > (now := trio.current_time()):
                # A longer wait would have to be ended when the answer begins, which costs more than a second wait.
                self._until = min(due, now + delivery.keepalive_every)
                await delivery.wait(self._news, self._until)
            else:
                try:
                    self._full = not delivery.break_silence(self._announce)
                except Exception as exc:
                    self._error = exc
        self.delivered = True

    def advance(self) -> bool:
        """Write the available increments until the connection is full. After the last increment, write the outcome.

        Return True if all increments have been passed to the connection.
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
        # An answer that has begun has a shorter limit of silence, so `due` may be earlier than before.
        hastens = begins and self.at and delivery.due < self._until
        if self._full or self.ended or self._error is not None or hastens:
            self._news.notify_all()
        return self.at == len(entries)

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Let the connection render the last increments and the outcome before they are sent."""
        if self._delivery is None or self._gone or self._failed or self._error is not None:
            return
        try:
            self._delivery.prepare(entries[self.at + self._early :], outcome)
        except Exception as exc:
            self._error = exc
            self._news.notify_all()

    def check_raw(self, raw: RawResponse) -> None:
        if self._delivery is not None:
            self._delivery.check_raw(raw)

    def write_early(self, data: bytes) -> bool:
        """Write `data`, the bytes of the next increment, if the connection has written every earlier increment.

        Return True if `data` was written.
        """
        delivery = self._delivery
        if delivery is None or self._full or self._gone or self._failed or self._error is not None:
            return False
        self._early = self.at == len(self.answer.entries) and delivery.write_early(data)
        if delivery.full:
            self._full = True
            self._news.notify_all()
        return self._early

    def hang_up(self) -> None:
        """Stop `follow`, because the client has disconnected, or has not read its answer in time."""
        self._gone = True
        self._news.notify_all()
        if self._flushing is not None:
            self._flushing.cancel()

    def close(self) -> None:
        """Detach the connection from the answer, even if the connection has written only a part of the answer.

        Also drop the reference to the connection. Without this, a reference cycle would keep the whole request in
        memory until the garbage collector runs.
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
        """Return the id that the answer will have, for a keep-alive that contains this id.

        After this call, the id of the answer cannot be changed.
        """
        answer = self.answer
        answer.announced = answer.announced or not answer.entries
        return answer.response_id


@final
class Condition:
    """A condition for which tasks wait. `notify_all` wakes all waiting tasks.

    Unlike trio's `Condition`, this class has no lock, because a task that checks a value and then calls `wait` is not
    interrupted by another task in between. This class is also cheaper to create than trio's `ParkingLot`, which matters
    because each model call creates two conditions.
    """

    _tasks: list[trio.lowlevel.Task] | None = None

    async def wait(self) -> None:
        """Wait for the next `notify_all`.

        Cancellation: if the task was already woken, the wait ends normally. Otherwise the wait is cancelled
        immediately.
        """
        task = trio.lowlevel.current_task()
        tasks = self._tasks = self._tasks or []
        tasks.append(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def notify_all(self) -> None:
        if self._tasks:
            tasks, self._tasks = self._tasks, None
            for task in tasks:
                trio.lowlevel.reschedule(task)
