"""An answer on its way from whoever gives it to the connections that wait for it.

One producer, many subscriptions, each from the start: an agent that re-sends its call while the answer still runs
reads the same answer.

Rules:

1. Nobody asks whether something can be sent now. What is put is rendered for each connection on the spot, unless that
   one is full: then it is, by the connection's own task, when what it has is sent (`advance`).
2. Back-pressure: `put` waits until one connection has taken all. Without any it does not wait.
3. The outcome comes last, once, and without a wait. It is what ends every subscription.
4. The increments of an answer that was delivered are dropped with its last subscription: the outcome has the whole.
5. A provider's own bytes may stand beside the increments (`Relayed`), for connections in that provider's dialect.
   Such a connection may be given them before anybody has read them (`write_early`); the increment follows at once.
6. Raw bytes that are made on their way are increments, too (`RawPiece`): an answer has nothing but those, then.
7. What cannot be said in one connection's dialect is that subscription's error, never the producer's.
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


class RawPiece(msgspec.Struct, frozen=True, gc=False):
    """Raw bytes that go out before those behind them are made."""

    head: RawResponse
    """What they are part of, without its body."""
    data: bytes
    """Empty: the head alone."""


Increment: TypeAlias = Event | Relayed
Entry: TypeAlias = Increment | RawPiece

_encode = msgspec.json.Encoder().encode
_EVENT = 200
"""Bytes that an event takes in memory, beside its text: a token is often four of them."""


def weight_of(entry: Entry) -> int:
    """About how many bytes an increment keeps."""
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
        case _:  # one of a part, or of an answer; all of an opaque part is in its start
            return _EVENT + len(_encode(entry))


class Delivery(Protocol):
    """What one connection makes of an answer, and what of that it has still to send. Only `flush` waits."""

    @property
    def full(self) -> bool:
        """Whether something of it is still to be sent: it takes no more before."""

    @property
    def due(self) -> float:
        """When, by trio's clock, its client will have waited in silence for too long."""

    def write(self, entry: Entry) -> bool:
        """An increment. Whether all is sent, and it takes more.

        Raises:
            DialectError: this connection's dialect cannot say it.
        """

    def write_early(self, data: bytes) -> bool:
        """The bytes of an increment that is not known yet; whether this connection can be given them."""

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Make what will be written of these increments, which are the last, and of the outcome: before any of it may
        leave. Only a connection whose bytes are kept does.

        Raises:
            DialectError: as `write`.
        """

    def check_raw(self, raw: RawResponse) -> None:
        """See whether this connection can be sent raw bytes.

        Raises:
            ValueError: it has no word for them.
        """

    def end(self, outcome: Outcome) -> bool:
        """How it ended; what is still to be written of it. Whether all is sent."""

    def break_silence(self, announce: Callable[[], str]) -> bool:
        """A no-op. Whether all is sent.

        Args:
            announce: gives the id that the answer will have: called if the client is told it.
        """

    def fail(self, error: Exception) -> bool:
        """What its client is told, and the program, when it cannot say this answer. Whether all is sent."""

    @property
    def wait(self) -> Callable[[Condition, float], Awaitable[None]]:
        """Until there is news, or it is so late by trio's clock.

        Cancellation: immediate.
        """

    async def flush(self) -> None:
        """Send what is still to be sent. Called by the connection's own task alone.

        Raises:
            ClientGone: the client has hung up, or takes nothing any more.
            DialectError: this connection's dialect cannot say what was written.

        Cancellation: breaks the connection off.
        """


class Answer:
    """The increments of one answer, then its outcome.

    Args:
        response_id: the id that the answer has unless whoever gives it says otherwise in time.
        request_id: the id of the call, which the head of its answer has.
    """

    announced: bool = False
    """Whether some agent was told `response_id` before the first entry: the answer must have it then."""
    headers: Mapping[str, str] = MappingProxyType({})
    """What the head of the answer says beside: a provider's request id, its rate limits; set before the first entry."""
    began_at: float | None = None
    """When the first entry was put, by trio's clock; None: none was."""
    outcome: Outcome | None = None
    delivered: bool = False
    """Whether all of it was written to some connection."""

    def __init__(self, response_id: str = "", request_id: str = "") -> None:
        self.response_id = response_id
        self.request_id = request_id
        self.entries: list[Entry] = []
        self.subscriptions: set[Subscription] = set()
        """Who reads."""
        self._progress = Condition()

    @property
    def is_full(self) -> bool:
        """Whether what is put now waits for a connection."""
        for subscription in self.subscriptions:
            if subscription.takes_more:
                return False
        return bool(self.subscriptions)

    async def put(self, entry: Entry) -> None:
        """Add an increment, and wait until a connection has taken it.

        Cancellation: the increment stays; only the wait is cut short.
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
            await self._until(self._is_taken)

    def write_early(self, data: bytes) -> bool:
        """Give the one connection that reads the bytes of the increment that is put next; whether it has them."""
        if len(self.subscriptions) != 1:
            return False
        return next(iter(self.subscriptions)).write_early(data)

    def prepare(self, outcome: Outcome, last: Entry | None = None) -> None:
        """Have the connections make what `end` will write, for whoever keeps it."""
        for subscription in self.subscriptions:
            subscription.prepare([*self.entries, *([last] if last is not None else [])], outcome)

    def check_raw(self, raw: RawResponse) -> None:
        """See whether the connections can be sent raw bytes; ValueError, if one cannot."""
        for subscription in self.subscriptions:
            subscription.check_raw(raw)

    def end(self, outcome: Outcome, last: Entry | None = None) -> None:
        """The outcome, after one last increment."""
        if last is not None:
            self.entries.append(last)
        self.outcome = outcome
        for subscription in self.subscriptions:
            subscription.advance()
            self.delivered = self.delivered or subscription.delivered
        self._progress.notify_all()

    async def wait_delivered(self) -> None:
        """Until the answer was written to a connection, or nobody waits for it any more."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.delivered or not self.subscriptions:
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._until(lambda: self.delivered)

    def _is_taken(self) -> bool:
        count = len(self.entries)
        return any(subscription.at == count for subscription in self.subscriptions)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and self.subscriptions:
            await self._progress.wait()


@final
class Subscription:
    """One connection's place in the answer, at first its beginning. Its own task runs `follow`; whoever answers,
    `advance`."""

    at: int = 0
    """How many increments were written."""
    ended: bool = False
    """Whether the outcome was, too."""
    delivered: bool = False
    """Whether all of it was sent."""
    fault: Exception | None = None
    """Set by a connection that could not write the answer, through no fault of its client."""
    _delivery: Delivery | None = None
    _full = False
    """Whether the connection has something to flush."""
    _early = False
    """Whether the increment that is put next was written."""
    _gone = False
    _error: Exception | None = None
    """Why the connection cannot say this answer; not told yet."""
    _failed = False
    """Whether it was."""
    _flushing: trio.CancelScope | None = None

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._news = Condition()
        answer.subscriptions.add(self)

    @property
    def takes_more(self) -> bool:
        """Whether something can be written now: it is followed, has sent what it has, and says the answer."""
        stopped = self._full or self._gone or self._failed or self._error is not None
        return self._delivery is not None and not stopped

    async def follow(self, delivery: Delivery) -> None:
        """Give the connection all of the answer, and let it break each silence, until everything is sent.

        Raises:
            ClientGone: by `hang_up`, or from the connection.

        Cancellation: of a flush breaks the connection off, of a wait does nothing.
        """
        self._delivery, answer = delivery, self.answer
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if not self.ended and (answer.outcome is not None or self.at < len(answer.entries)):
                self.advance()
                answer._progress.notify_all()
            if self._error is not None:
                self._fail(delivery)
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
                self._break_silence(delivery)
        self.delivered = True

    def advance(self) -> bool:
        """Write what is there, while the connection takes more; then the outcome. Whether all increments are taken."""
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
        # What has begun may be silent for less long: it is `due` sooner.
        if self._full or self.ended or self._error is not None or (begins and self.at):
            self._news.notify_all()
        return self.at == len(entries)

    def prepare(self, entries: Sequence[Entry], outcome: Outcome) -> None:
        """Have the connection make what it will write of these, which are all, and of the outcome."""
        if self._delivery is None or self._gone or self._failed or self._error is not None:
            return
        try:
            self._delivery.prepare(entries[self.at + self._early :], outcome)
        except Exception as exc:
            self._error = exc
            self._news.notify_all()

    def check_raw(self, raw: RawResponse) -> None:
        """See whether the connection can be sent raw bytes; ValueError, if it cannot."""
        if self._delivery is not None:
            self._delivery.check_raw(raw)

    def write_early(self, data: bytes) -> bool:
        """Write the bytes of the increment that is put next, if that is the one that the connection waits for."""
        delivery = self._delivery
        if delivery is None or self._full or self._gone or self._failed or self._error is not None:
            return False
        self._early = self.at == len(self.answer.entries) and delivery.write_early(data)
        if delivery.full:
            self._full = True
            self._news.notify_all()
        return self._early

    def hang_up(self) -> None:
        """The client has hung up, or will not be waited for any longer."""
        self._gone = True
        self._news.notify_all()
        if self._flushing is not None:
            self._flushing.cancel()

    def close(self) -> None:
        """This connection is done with the answer, whether all of it was written or not.

        It lets go of the connection, too: a cycle would keep a whole request until the garbage collector comes.
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

    def _break_silence(self, delivery: Delivery) -> None:
        try:
            self._full = not delivery.break_silence(self._announce)
        except Exception as exc:
            self._error = exc

    def _fail(self, delivery: Delivery) -> None:
        """Let the connection say that it cannot say this answer; that is all it says of it."""
        error, self._error, self._failed = self._error, None, True
        assert error is not None
        self._full = not delivery.fail(error)

    def _announce(self) -> str:
        """The id that the answer will have, for an agent that must be told before it has begun."""
        answer = self.answer
        answer.announced = answer.announced or not answer.entries
        return answer.response_id


@final
class Condition:
    """Tasks wait for it until something has happened, and all go on when it is notified.

    trio's own `Condition` without its lock (between a look and a wait nothing runs here), and `ParkingLot` with less in
    it: every call has two of these, and making a lot costs as much as using it.
    """

    _tasks: list[trio.lowlevel.Task] | None = None

    async def wait(self) -> None:
        """Wait until it is notified.

        Cancellation: immediate, unless it has been.
        """
        task = trio.lowlevel.current_task()
        tasks = self._tasks = self._tasks or []
        tasks.append(task)

        def abort(_: Any) -> trio.lowlevel.Abort:
            tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def notify_all(self) -> None:
        """Let all go on that wait now."""
        if self._tasks:
            tasks, self._tasks = self._tasks, None
            for task in tasks:
                trio.lowlevel.reschedule(task)
