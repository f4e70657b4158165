"""One caught model call, live, and an answer that is given to it piece by piece: what a program holds of both."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias, cast, final

import trio

from .._canonical.content import Json, Opaque, Reasoning, RefusalText, Text, ToolCall
from .._canonical.events import (
    Event,
    Fold,
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    Seams,
    part_events,
)
from .._canonical.given import given_event, given_increment, given_response, read_back
from .._canonical.request import Request
from .._canonical.response import Response, ResponsePart, StopReason, Usage
from .._trace.conversation import Conversation
from .._trace.raw import RawEnd, given_raw, is_made_on_the_way
from .._trace.turn import Turn
from .._util.contexts import Context
from ..errors import Refusal
from .answer import Relayed
from .exchange_state import ExchangeState
from .outcome import Raw
from .raw_stream import RawBody, RawStream

if TYPE_CHECKING:
    from .rollout import Rollout

Answerable: TypeAlias = Response | str | ResponsePart
"""What an exchange may be answered with: a whole response, or its one part, a `str` being text."""


@final
class Exchange:
    """One model call of the agent, waiting to be answered. Made by a rollout only.

    It gets exactly one outcome: answered (`respond`, `open_stream`), refused (`refuse`), failed (its handler raised)
    or abandoned (the agent hung up).
    """

    _raw: Json = None
    """A copy of the document, once it was asked for: messages and tools of later calls may share parts of it."""

    def __init__(self, core: ExchangeState, rollout: Rollout) -> None:
        self._core = core
        self._rollout = rollout

    def __repr__(self) -> str:
        return repr(self._core)

    @property
    def id(self) -> str:
        """Its own, and that of its turn."""
        return self._core.id

    @property
    def rollout(self) -> Rollout:
        """The agent run that it belongs to."""
        return self._rollout

    @property
    def request(self) -> Request:
        """What the agent asks, as a value."""
        return self._core.request

    @property
    def raw(self) -> Json:
        """The agent's document, decoded, as it came. It is yours: what you change in it is in no record, and in no
        other call."""
        if self._raw is None:
            self._raw = read_back(self._core.raw)
        return self._raw

    @property
    def headers(self) -> Mapping[str, str]:
        """The agent's headers, names in lower case; those that hold a key say `[redacted]`."""
        return self._core.headers

    @property
    def query(self) -> str:
        """The query of the agent's URL, e.g. `beta=true`; empty where there is none."""
        return self._core.query

    @property
    def attempt(self) -> int:
        """Which try of the agent's SDK this is, as far as the SDK tells; from 1."""
        return self._core.attempt

    @property
    def dialect(self) -> str:
        """The wire format that the agent speaks."""
        return self._core.dialect

    @property
    def conversation(self) -> Conversation:
        """Whose call it is: the agent's main conversation, a sub-agent's, or a side call such as a title.

        As the agent says; where it says nothing, by the messages, which takes a look at the whole trace.
        """
        return self._core.conversation

    @property
    def turn(self) -> Turn | None:
        """The record of what became of it, as the trace has it; None: it is not recorded yet."""
        turns = reversed(self._core.rollout.trace.turns)
        return next((turn for turn in turns if turn.id == self._core.id), None)

    @property
    def settled(self) -> bool:
        """Whether it has its outcome."""
        return self._core.settled

    async def respond(self, answer: Answerable) -> None:
        """Answer, whole. An agent that asked for a stream gets one.

        Returns once the answer is recorded and written to the agent's connection (or the agent has hung up
        meanwhile: the answer is in the trace all the same). Of an exchange that its rollout's end has refused meanwhile
        nothing is left to do, and nothing is done.

        Args:
            answer: a `Response`; or one part of it, a `str` being text.

        Raises:
            TypeError, ValueError: that is no answer. The exchange is as it was, and can still be answered.
            AlreadySettled: it has its outcome.
            ExchangeAbandoned: the agent has hung up.
            OSError: (or whatever else the recorder raises) the turn could not be recorded.

        Cancellation: before it begins, nothing has happened; later the answer is recorded and given, only the wait
        for its delivery is cut short.
        """
        try:
            response = given_response(answer)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's
        await self._core.respond(response)

    def open_stream(self) -> AbstractAsyncContextManager[ResponseStream, bool | None]:
        """Answer piece by piece: `async with exchange.open_stream() as stream: await stream.send("hel")`.

        An agent that did not ask for a stream gets the whole when it is whole.

        Closing: on a clean exit the answer ends with `ResponseEnd`, unless it was sent. Left by an exception, the
        exchange is failed (or refused, if that is a `Refusal`): the agent sees its stream break, never a clean end.
        When the rollout has ended meanwhile, the block ends with the next `send`, and the program goes on behind it.

        Raises:
            AlreadySettled: it has its outcome, or a stream already.
            ExchangeAbandoned: the agent has hung up.
        """
        return StreamContext(self._core)

    async def refuse(
        self,
        status: int,
        message: str,
        *,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse, with this HTTP status, in the agent's dialect.

        What each status makes each agent do differs: 404 ends every known agent at once, 429 with `retry_after`
        makes nearly all of them wait and try again. In mid-stream the status is lost: the agent gets its dialect's
        in-band error and a broken stream.

        Args:
            status: 400 to 599.
            message: what the agent reads.
            retry_after: seconds.
            should_retry: what `x-should-retry` says; None sends no such header.
            code: the dialect's own error code; None chooses by status.
            headers: further response headers, such as rate limits (`x-ratelimit-remaining-tokens`, …).

        Raises:
            AlreadySettled, ExchangeAbandoned: as `respond`.
            ValueError, TypeError: as `Refusal`.

        Cancellation: as `respond`.
        """
        refusal = Refusal(
            status, message, retry_after=retry_after, should_retry=should_retry, code=code, headers=headers
        )
        await self._core.refuse(refusal)

    async def respond_raw(
        self,
        status: int | None,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes | float] | AsyncIterable[bytes | float],
        *,
        end: RawEnd = "whole",
        response: Answerable | None = None,
    ) -> None:
        """Answer with raw bytes, right or wrong, and with an end of one's own: what a broken provider does.

        How the body is framed its headers say: by `content-length`, be it wrong; by `transfer-encoding: chunked`, each
        piece being a chunk; without both a whole one is framed as the connection does it, and any other goes until the
        connection is closed, which HTTP/1.1 takes for its end. Returns when the bytes are written, and the connection
        has ended as asked; a `stall` then goes on until the agent hangs up, or the endpoint ends.

        Over the websocket of Responses each event of an SSE body is a frame; what that has no word for is refused. When
        the head has gone out already, after half a minute of silence, what is left of this is the end alone.

        Args:
            status: 200 to 599; None: no head is sent, and what goes out is the body alone.
            headers: of the response, and no others are sent but those that framing needs, and the date.
            body: bytes; or pieces, each written by itself, and numbers between them: pauses, in seconds. Of a list all
                is recorded first; of a generator, async or not, each piece goes out before the next one is asked for,
                the head before the first. One that is not async must not block.
            end: `whole`: as HTTP ends it. `close`: the connection is closed where it stands. `reset`: it is reset
                (RST), and the agent may lose what it has not read. `stall`: nothing more comes.
            response: what the bytes say, where they are an answer all the same: the turn is `answered`, with it. None:
                the turn is `refused`. The turn has the bytes, as `raw`, in any case.

        Raises:
            TypeError, ValueError: an argument is not what it should be, or the agent's connection has no word for it.
                The exchange is as it was; but where a generator has given what is no piece, it has failed.
            Exception: what a generator has raised. The exchange is failed (or refused, by a `Refusal`), and its
                connection reset: nobody can take what was sent for whole.
            AlreadySettled, ExchangeAbandoned, OSError: as `respond`.

        Closing: a generator that is not at its end is closed, and its turn has what was sent.

        Cancellation: as `respond`, or, of a generator, as of `open_stream`; a connection that has not got all of it is
        broken off when its rollout ends.
        """
        core = self._core
        try:
            on_the_way = is_made_on_the_way(body)
            whole = b"" if on_the_way else body
            sent = given_raw(status, headers, whole, end, core.rollout.addresses.limits.answer_bytes)
            said = _said(core, response)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None
        if on_the_way:
            await core.stream_raw(sent, cast(RawBody, body), said)
        else:
            await core.respond_raw(Raw(sent, said, complete=said is not None))

    async def forward(self, upstream: Callable[[Exchange], Awaitable[None]]) -> None:
        """Let `upstream` (any handler) answer."""
        await upstream(self)

    def annotate(self, **data: Json) -> None:
        """Put notes into the turn: anything that JSON can say. One that was settled from outside takes none any more.

        Raises:
            AlreadySettled: the turn is written.
            TypeError: JSON cannot say that.
        """
        self._core.annotate(**data)


@final
class ResponseStream:
    """Where the increments of an answer go. Made by `exchange.open_stream` only.

    Two ways to use it, that mix: send what the answer is made of (text, reasoning, tool calls) and let it number the
    parts; or send the events of `triocept`'s grammar yourself, as they come from elsewhere.
    """

    def __init__(self, exchange: ExchangeState) -> None:
        self._send = exchange.send
        self._started = False
        self._count = 0
        self._text: int | None = None
        self._seams = Seams()
        self.ended: bool = False
        """Whether the terminal event was sent."""

    async def send(self, item: str | ResponsePart | Event) -> None:
        """Send one increment.

        Args:
            item: a `str` goes on with the text that is being written, or begins one; a part (`ToolCall`, `Reasoning`,
                …) is sent whole; an event is sent as it is.

        Raises:
            ExchangeAbandoned: the agent has hung up.
            AlreadySettled: the answer has ended.
            RolloutClosed: the rollout has ended. The block of `open_stream` ends with it, and takes it in.
            DialectError: the event breaks the grammar.
            TypeError, ValueError: that is no increment of an answer. Nothing of it was sent.

        A surrogate pair that is cut in two is joined: its first half waits for the second, or for the end of its part.

        Cancellation: an increment is sent or it is not; what was sent stays sent. Waits while the agent's connection
        takes no more.
        """
        if isinstance(item, str):
            if self._text is None:
                if not self._started:
                    await self._send_event(ResponseStart())
                self._text = self._count
                await self._send_event(PartStart(self._count, Text("")))
            await self._send_event(PartDelta(self._text, item))
            return
        try:
            given = given_increment(item)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the line of interest is the caller's
        match given:
            case Text() | Reasoning() | ToolCall() | RefusalText() | Opaque():
                await self._end_text()
                for event in part_events(self._count, given):
                    await self._send_event(event)
            case ResponseEnd():
                await self._end_text()
                await self._send_event(given)
            case _:
                await self._send_event(given)

    async def end(
        self,
        *,
        stop_reason: StopReason | None = None,
        stop_sequence: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        """End the answer: the turn is recorded, then the agent sees the terminal event.

        Returns when it is written to the agent's connection. A stream that is left without it ends all the same.

        Args:
            stop_reason: None: by content.
            stop_sequence: which stop string, if that is the reason.
            usage: None: an estimate.

        Raises:
            ExchangeAbandoned, AlreadySettled, RolloutClosed, TypeError, ValueError: as `send`.
        """
        end = given_event(ResponseEnd(stop_reason, stop_sequence, usage))
        await self._end_text()
        await self._send_event(end)

    async def _relay(self, piece: Relayed) -> None:
        """Pass on a piece of a provider's stream; errors and cancellation as `send`."""
        self._started = True
        self.ended = self.ended or piece.last
        await self._send(piece)

    async def _end_text(self) -> None:
        """End the text that is being written, of an answer that has begun afterwards."""
        if not self._started:
            await self._send_event(ResponseStart())
        if self._text is not None:
            index, self._text = self._text, None
            await self._send_event(PartEnd(index))

    async def _send_event(self, event: Event) -> None:
        self._started = True
        if isinstance(event, PartStart):
            self._count = max(self._count, event.index + 1)
        elif isinstance(event, ResponseEnd):
            self.ended = True
        if not self._seams and (not isinstance(event, PartDelta) or event.text.isascii()):
            await self._send(event)
            return
        fit = self._seams.take(event)
        for each in fit:
            await self._send(each)
        if not fit:
            await trio.lowlevel.checkpoint()


@final
class StreamContext(Context[ResponseStream]):
    """See `Exchange.open_stream`. No Ctrl-C lands in its own code, its body is the user's."""

    _name = "open_stream"
    _gives = "stream"

    def __init__(self, exchange: ExchangeState) -> None:
        self._exchange = exchange

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> ResponseStream:
        exchange = self._exchange
        exchange.check_unbegun()
        exchange.fold = Fold()
        self._stream = ResponseStream(exchange)
        return self._stream

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        exchange, stream = self._exchange, self._stream
        if exc is not None:
            return await exchange.leave_stream(exc)
        try:
            if not stream.ended and (exchange.outcome is None or exchange.from_outside):
                await stream._end_text()
                await stream._send_event(ResponseEnd())
        except BaseException as failure:
            if not await exchange.leave_stream(failure):
                raise
        return False


def open_raw(
    exchange: Exchange, status: object, headers: object, end: object, response: object
) -> AbstractAsyncContextManager[RawStream]:
    """`respond_raw` of pieces that somebody else asks for: they are sent in its block; errors as of that."""
    core = exchange._core
    return core.open_raw(given_raw(status, headers, b"", end), _said(core, response))


def _said(core: ExchangeState, response: object) -> Response | None:
    return None if response is None else core.complete(given_response(response))


def core_of(exchange: Exchange) -> ExchangeState:
    """What an exchange is about, for those of us who answer by more than its public ways."""
    return exchange._core


def joins(stream: ResponseStream) -> bool:
    """Whether half of a letter waits for the other one: what is sent next may be two increments."""
    return bool(stream._seams)
