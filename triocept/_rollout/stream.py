"""An answer given piece by piece."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, final

import trio

from .._canonical.content import Opaque, Reasoning, RefusalText, Text, ToolCall
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
from .._canonical.given import given_event, given_increment
from .._canonical.response import ResponsePart, StopReason, Usage
from .._contexts import Context
from .answer import Relayed

if TYPE_CHECKING:
    from .exchange_core import ExchangeCore

__all__ = ["ResponseStream", "StreamContext", "joins"]


@final
class ResponseStream:
    """Where the increments of an answer go. Made by `exchange.open_stream` only.

    Two ways to use it, that mix: send what the answer is made of (text, reasoning, tool calls) and let it number the
    parts; or send the events of `triocept`'s grammar yourself, as they come from elsewhere.
    """

    def __init__(self, exchange: ExchangeCore) -> None:
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
                await self._end(given)
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
        assert isinstance(end, ResponseEnd)
        await self._end(end)

    async def _relay(self, piece: Relayed) -> None:
        """Pass on a piece of a provider's stream; errors and cancellation as `send`."""
        self._started = True
        self.ended = self.ended or piece.last
        await self._send(piece)

    async def _end(self, end: ResponseEnd) -> None:
        await self._end_text()
        self.ended = True
        for event in self._seams.take(end) if self._seams else (end,):
            await self._send(event)

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

    def __init__(self, exchange: ExchangeCore) -> None:
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
                await stream._end(ResponseEnd())
        except BaseException as failure:
            if not await exchange.leave_stream(failure):
                raise
        return False


def joins(stream: ResponseStream) -> bool:
    """Whether half of a letter waits for the other one: what is sent next may be two increments."""
    return bool(stream._seams)
