"""The public objects of one live model call: `Exchange`, and the stream for an answer that is sent piece by piece."""

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
    PartBlob,
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
from .._util.checks import Misnamed
from .._util.contexts import Context
from ..errors import DialectError, Refusal
from .answer import Relayed
from .exchange_state import ExchangeState
from .outcome import Raw
from .raw_stream import RawBody, RawStream

if TYPE_CHECKING:
    from .rollout import Rollout

Answerable: TypeAlias = Response | str | ResponsePart
"""An answer to an exchange: a whole response, or its only part. A `str` is sent as a text part."""


@final
class Exchange:
    """A model call that waits for an answer from the program. Only a rollout creates instances.

    Each exchange gets exactly one outcome: answered (`respond`, `open_stream`), refused (`refuse`), failed (its handler
    raised) or abandoned (the agent disconnected).
    """

    _raw: Json = None
    """A copy of the request's JSON body, made when `raw` is first read. The original must not be changed, because later
    calls may contain the same message and tool objects."""

    if not TYPE_CHECKING:
        prompt, text = Misnamed("request.user_text"), Misnamed("request.user_text")
        messages, model = Misnamed("request.messages"), Misnamed("request.model")
        tools, reply = Misnamed("request.tools"), Misnamed("respond(…)")

    def __init__(self, core: ExchangeState, rollout: Rollout) -> None:
        self._core = core
        self._rollout = rollout

    def __repr__(self) -> str:
        return repr(self._core)

    @property
    def id(self) -> str:
        """Id of the exchange, and of its turn in the trace."""
        return self._core.id

    @property
    def rollout(self) -> Rollout:
        """The rollout whose agent has sent the call."""
        return self._rollout

    @property
    def request(self) -> Request:
        """The agent's request, parsed into a `Request`, which has the same fields for all dialects."""
        return self._core.request

    @property
    def raw(self) -> Json:
        """The JSON body of the agent's request, decoded but otherwise unchanged.

        The value is a copy: changes to it affect neither the trace nor another call.
        """
        if self._raw is None:
            self._raw = read_back(self._core.raw)
        return self._raw

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the agent's request, by lower-case name. A key in a header's value is replaced by `[redacted]`."""
        return self._core.headers

    @property
    def query(self) -> str:
        """Query string of the request's URL, such as `beta=true`. Empty if the URL has no query."""
        return self._core.query

    @property
    def attempt(self) -> int:
        """Number of this try, from 1, which the agent's SDK sends in its retry header. Without this header: 1."""
        return self._core.attempt

    @property
    def dialect(self) -> str:
        """Name of the API dialect in which the agent has sent the call, such as `openai_chat`."""
        return self._core.dialect

    @property
    def conversation(self) -> Conversation:
        """The conversation of the call: the main conversation, a sub-agent's conversation, or a side call.

        Some agents name the conversation in their headers. If the headers name no conversation, triocept compares the
        call's messages with the messages of all turns in the trace.
        """
        return self._core.conversation

    @property
    def turn(self) -> Turn | None:
        """The turn in the trace that records this exchange. None if the exchange is not recorded yet."""
        turns = reversed(self._core.rollout.trace.turns)
        return next((turn for turn in turns if turn.id == self._core.id), None)

    @property
    def settled(self) -> bool:
        """True if the exchange has an outcome, so that it cannot be answered any more."""
        return self._core.settled

    async def respond(self, answer: Answerable) -> None:
        """Answer the call with a whole response. If the agent requested a stream, it gets the response as a stream.

        Returns when the answer is recorded and written to the agent's connection. If the agent disconnects before the
        answer is written, the trace still contains the answer. If the rollout has ended, the exchange was already
        refused, and `respond` has no effect.

        Args:
            answer: a `Response`, or a single part of a response; a `str` is a text part.

        Raises:
            TypeError, ValueError: the argument is not an answer. The exchange is unchanged, and can still be answered.
            AlreadySettled: the exchange already has an outcome.
            ExchangeAbandoned: the agent has disconnected.
            OSError: the turn could not be recorded. The recorder may also raise another error.

        Cancellation: if the task is already cancelled when it calls `respond`, the exchange is unchanged. A later
        cancellation ends only the wait: the answer is still recorded and delivered.
        """
        try:
            response = given_response(answer)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the relevant line is the caller's
        await self._core.respond(response)

    def open_stream(self) -> AbstractAsyncContextManager[ResponseStream, bool | None]:
        """Answer the call piece by piece: `async with exchange.open_stream() as stream: await stream.send("hel")`.

        If the agent did not request a stream, it gets the whole answer when the stream has ended.

        Closing: if the block ends without an exception, the event `ResponseEnd` is sent, unless the program has sent
        it. After an exception, the exchange has failed, or is refused if the exception is a `Refusal`. The agent's
        stream is then broken off, so that the agent cannot mistake this stream for a complete answer. If the rollout
        ends during the block, the next call of `send` ends the block without an error, and the program continues after
        the block.

        Raises:
            AlreadySettled: the exchange already has an outcome, or a stream was opened before.
            ExchangeAbandoned: the agent has disconnected.
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
        """Refuse the call with an HTTP status and an error body in the agent's dialect.

        The reaction of an agent depends on the status: after 404, every known agent ends immediately; after 429 with
        `retry_after`, nearly all known agents wait and retry. In the middle of a stream, no status can be sent: the
        agent gets an error event of its dialect, and then the stream is broken off.

        Args:
            status: 400 to 599.
            message: the text that the agent receives.
            retry_after: seconds after which the agent may retry (header `retry-after`). None means no such header.
            should_retry: value of the header `x-should-retry`. None means no such header.
            code: the dialect's own error code. If None, the status determines the code.
            headers: further response headers, such as rate limits (`x-ratelimit-remaining-tokens`, …).

        Raises:
            AlreadySettled, ExchangeAbandoned: see `respond`.
            ValueError, TypeError: an argument is invalid, see `Refusal`.

        Cancellation: as for `respond`.
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
        """Answer with raw bytes, which may be invalid, and end the connection as chosen, to imitate a broken provider.

        The headers determine the framing of the body. A `content-length` is sent unchanged, even if it is wrong. With
        `transfer-encoding: chunked`, each piece is a chunk. If both headers are missing and `end` is `whole`, triocept
        adds one of these headers. If both are missing and `end` has another value, the body ends where the connection
        is closed, as HTTP/1.1 allows.

        Returns when the bytes are written, and the connection has ended as `end` specifies. After `end="stall"`, the
        connection stays open until the agent disconnects or the endpoint ends.

        Over a websocket (OpenAI Responses), each event of an SSE body is sent as a frame. ValueError is raised if the
        answer cannot be sent over a websocket. If triocept has already sent a response head, because the agent has
        waited for half a minute, only `end` has an effect.

        Args:
            status: 200 to 599. If None, no head is sent, only the body.
            headers: headers of the response. triocept adds only the date and, if needed, a framing header.
            body: bytes; or an iterable of pieces (bytes), which are written one by one, and of pauses (seconds). A list
                is recorded before it is sent. A generator (async or not) is started when the head is sent, and resumed
                each time a yielded piece has been sent. A generator that is not async must not block.
            end: `whole`: the response ends as HTTP requires. `close`: the connection is closed after the body. `reset`:
                the connection is reset (RST), and the agent may lose unread bytes. `stall`: the connection stays open,
                and no further byte is sent.
            response: the content of the bytes, if they are an answer. The outcome of the turn is then `answered`, with
                this response. If None, the outcome is `refused`. In both cases, `turn.raw` contains the bytes.

        Raises:
            TypeError, ValueError: an argument is invalid, or the bytes cannot be sent on the agent's connection. The
                exchange is then unchanged. Exception: if a generator yielded an invalid piece, the exchange has failed.
            Exception: the exception of a generator. The exchange fails, or is refused if the exception is a `Refusal`.
                The connection is reset, so that the agent cannot mistake the bytes for a whole answer.
            AlreadySettled, ExchangeAbandoned, OSError: see `respond`.

        Closing: a generator that has not finished is closed, and the turn contains the bytes that were sent.

        Cancellation: has the same effect as for `respond` or, if `body` is a generator, as an exception in the block of
        `open_stream`. If the rollout ends before all bytes are sent, the connection is aborted.
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
        """Let another handler, such as an upstream, answer this call."""
        given: object = upstream
        if not callable(given):
            from .handler import check_handler  # which imports this module

            check_handler(given)
        await upstream(self)

    def annotate(self, **data: Json) -> None:
        """Add notes (any JSON values) to the turn.

        If the agent has disconnected or the rollout has ended, the notes are ignored.

        Raises:
            AlreadySettled: the turn is already recorded.
            TypeError: a value cannot be written as JSON.
        """
        self._core.annotate(**data)


@final
class ResponseStream:
    """A stream on which the program sends an answer piece by piece. Only `exchange.open_stream` creates instances.

    A program can send text, reasoning and tool calls; the stream then numbers the parts. A program can also send
    triocept's events (`PartStart`, `PartDelta`, …), for example the events of a draft. Both may be mixed.
    """

    def __init__(self, exchange: ExchangeState) -> None:
        self._exchange = exchange
        self._send = exchange.send
        self._started = False
        self._count = 0
        self._text: int | None = None
        self._seams = Seams()
        self.ended: bool = False
        """True if the event that ends the answer was sent."""

    async def send(self, item: str | ResponsePart | Event) -> None:
        """Send one increment of the answer to the agent.

        Args:
            item: a `str` continues the current text, or begins a new text. A part (`ToolCall`, `Reasoning`, …) is sent
                whole. An event is sent unchanged; a `ResponseStart` is sent before it if the answer has not begun.

        Raises:
            ExchangeAbandoned: the agent has disconnected.
            AlreadySettled: the answer has ended.
            RolloutClosed: the rollout has ended. The error ends the block of `open_stream`, and is not raised outside
                of the block.
            DialectError: the event is not allowed after the events before it.
            TypeError, ValueError: the argument is not an increment. No part of the argument was sent.

        If a text ends with the first half of a surrogate pair, this half is not sent until the second half arrives, or
        until the part ends.

        `send` waits while the agent's connection accepts no more data. Cancellation: the increment is sent completely
        or not at all.
        """
        if isinstance(item, str):
            if self._text is not None:
                await self._send_events(PartDelta(self._text, item))
                return
            await trio.lowlevel.checkpoint_if_cancelled()  # before the change of the state
            start = () if self._started else (ResponseStart(),)
            self._text = number = self._count
            await self._send_events(*start, PartStart(number, Text("")), PartDelta(number, item))
            return
        try:
            given = given_increment(item)
        except (TypeError, ValueError) as exc:
            raise exc.with_traceback(None) from None  # the relevant line is the caller's
        match given:
            case Text() | Reasoning() | ToolCall() | RefusalText() | Opaque():
                await self._send_behind_text(*part_events(self._count, given))
            case ResponseEnd():
                await self._send_behind_text(given)
            case _:
                await self._send_given(given)

    async def end(
        self,
        *,
        stop_reason: StopReason | None = None,
        stop_sequence: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        """End the answer. First the turn is recorded, then the agent gets the event that ends the stream.

        Returns when this event is written to the agent's connection. If the program does not call `end`, the answer
        ends when the block of `open_stream` ends.

        Args:
            stop_reason: the reason why the model stopped. If None, triocept derives the stop reason from the content.
            stop_sequence: the stop string at which the model stopped, if there was one.
            usage: token counts. None means an estimate.

        Raises:
            ExchangeAbandoned, AlreadySettled, RolloutClosed, TypeError, ValueError: see `send`.
        """
        end = given_event(ResponseEnd(stop_reason, stop_sequence, usage))
        await self._send_behind_text(end)

    async def _relay(self, piece: Relayed) -> None:
        """Send the agent `piece`, a piece of a provider's stream.

        The errors and the effect of a cancellation are those of `send`.
        """
        self._started = True
        self.ended = self.ended or piece.last
        await self._send(piece)

    async def _send_behind_text(self, *events: Event) -> None:
        """Send events after the open text part, which this method ends.

        If the start of the answer was not sent yet, send it first.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # before the change of the state
        if not self._started:
            await self._send_events(ResponseStart())
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._text is not None:
            events, self._text = (PartEnd(self._text), *events), None
        await self._send_events(*events)

    async def _send_given(self, event: Event) -> None:
        """Send an event that the program has passed to `send`.

        If the event is the first one, and not a `ResponseStart`, send a `ResponseStart` with it. After a DialectError,
        the stream is unchanged.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # before the change of the state
        exchange = self._exchange
        if isinstance(event, PartDelta | PartBlob | PartEnd) and exchange.outcome is None and exchange.fold:
            # `Fold.add` accepts a delta of an ended part, because a provider may send it.
            exchange.fold.check_open(event.index)
        started, seams = self._started, Seams(self._seams)
        start = () if started or isinstance(event, ResponseStart) else (ResponseStart(),)
        try:
            await self._send_events(*start, event)
        except DialectError:
            self._started, self._seams = started, seams
            raise

    async def _send_events(self, *events: Event) -> None:
        """Send events as one increment, in a single write."""
        self._started = True
        fit = not self._seams
        for event in events:
            if isinstance(event, PartDelta):
                fit = fit and event.text.isascii()
            elif isinstance(event, PartStart):
                self._count = max(self._count, event.index + 1)
            elif isinstance(event, ResponseEnd):
                self.ended = True
        if not fit and self._exchange.outcome is None:  # otherwise `_send` raises
            await trio.lowlevel.checkpoint_if_cancelled()  # before the change of the seams
            events = tuple([each for event in events for each in self._seams.take(event)])
        if len(events) == 1:
            await self._send(events[0])
        elif events:
            await self._send(Relayed(None, events))
        else:
            await trio.lowlevel.checkpoint()


@final
class StreamContext(Context[ResponseStream]):
    """The context manager that `Exchange.open_stream` returns.

    Only the user's block can be interrupted by KeyboardInterrupt.
    """

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
                await stream._send_behind_text(ResponseEnd())
        except BaseException as failure:
            if not await exchange.leave_stream(failure):
                raise
        return False


def open_raw(
    exchange: Exchange, status: object, headers: object, end: object, response: object
) -> AbstractAsyncContextManager[RawStream]:
    """Return a context manager whose stream sends a raw answer piece by piece.

    Raise the same errors as `respond_raw`.
    """
    core = exchange._core
    return core.open_raw(given_raw(status, headers, b"", end), _said(core, response))


def _said(core: ExchangeState, response: object) -> Response | None:
    return None if response is None else core.complete(given_response(response))


def core_of(exchange: Exchange) -> ExchangeState:
    return exchange._core


def joins(stream: ResponseStream) -> bool:
    """Return True if `stream` holds back half of a surrogate pair.

    If True, the next call of `send` may send two increments.
    """
    return bool(stream._seams)
