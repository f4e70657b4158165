"""One caught model call, as a program holds it that is not the loop's: `Exchange`, with verbs that block."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast, final

from .._canonical.content import Json
from .._canonical.request import Request
from .._rollout.exchange import Answerable, Exchange, open_raw
from .._rollout.handler import Handler
from .._rollout.raw_stream import closed_after
from .._trace.conversation import Conversation
from .._trace.raw import RawEnd, is_made_on_the_way
from .._trace.turn import Turn
from ..errors import RolloutClosed
from ._blocks import block
from ._held import holding
from ._loop import Loop
from ._stream import SyncStream

if TYPE_CHECKING:
    from .._rollout.rollout import Rollout
    from ._rollout import SyncRollout


@final
class SyncExchange:
    """One model call of the agent, waiting to be answered. Made by a `SyncRollout` only.

    It gets exactly one outcome, as an `Exchange` does. Its verbs block, and may be used in any thread but the
    endpoint's own.
    """

    def __init__(self, exchange: Exchange, rollout: SyncRollout, loop: Loop) -> None:
        self._exchange = exchange
        self._rollout = rollout
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._exchange)

    @property
    def id(self) -> str:
        """Its own, and that of its turn."""
        return self._exchange.id

    @property
    def rollout(self) -> SyncRollout:
        """The agent run that it belongs to."""
        return self._rollout

    @property
    def request(self) -> Request:
        """What the agent asks, as a value."""
        return self._exchange.request

    @property
    def raw(self) -> Json:
        """The agent's document, decoded, as it came. It is yours: what you change in it is in no record, and in no
        other call."""
        return self._exchange.raw

    @property
    def headers(self) -> Mapping[str, str]:
        """The agent's headers, names in lower case; those that hold a key say `[redacted]`."""
        return self._exchange.headers

    @property
    def query(self) -> str:
        """The query of the agent's URL; empty where there is none."""
        return self._exchange.query

    @property
    def attempt(self) -> int:
        """Which try of the agent's SDK this is, as far as the SDK tells; from 1."""
        return self._exchange.attempt

    @property
    def dialect(self) -> str:
        """The wire format that the agent speaks."""
        return self._exchange.dialect

    @property
    def conversation(self) -> Conversation:
        """Whose call it is; see `Exchange.conversation`."""
        return self._loop.ask(lambda: self._exchange.conversation)

    @property
    def settled(self) -> bool:
        """Whether it has its outcome."""
        return self._exchange.settled

    @property
    def turn(self) -> Turn | None:
        """Its turn, once it has its outcome; None before."""
        return self._exchange.turn

    def respond(self, answer: Answerable) -> None:
        """Answer, whole; an agent that asked for a stream gets one.

        Returns once the answer is recorded and written to the agent's connection.

        Args:
            answer: a `Response`; or one part of it, a `str` being text.

        Raises:
            TypeError, ValueError: that is no answer; it can still be answered.
            AlreadySettled, ExchangeAbandoned: as `Exchange.respond`.
            RuntimeError: the endpoint has ended; or this is its own thread, or another process.
            TimeoutError: the endpoint is blocked; the text says by whom.

        Ctrl-C: as a cancellation of `Exchange.respond`.
        """
        self._loop.call(self._exchange.respond, answer)

    def refuse(
        self,
        status: int,
        message: str,
        *,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse, with this HTTP status, in the agent's dialect; arguments and errors as of `Exchange.refuse`."""
        refuse = partial(self._exchange.refuse, status, message, retry_after=retry_after)
        self._loop.call(partial(refuse, should_retry=should_retry, code=code, headers=headers))

    def respond_raw(
        self,
        status: int | None,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes | float] | AsyncIterable[bytes | float],
        *,
        end: RawEnd = "whole",
        response: Answerable | None = None,
    ) -> None:
        """Answer with raw bytes, right or wrong, and with an end of one's own; arguments and errors as of
        `Exchange.respond_raw`. A generator that is not async runs here, and may block; an async one in the endpoint's
        thread."""
        if isinstance(body, AsyncIterable) or not is_made_on_the_way(body):
            raw = partial(self._exchange.respond_raw, status, headers, body, end=end, response=response)
            self._loop.call(raw)
            return
        context = self._loop.ask(open_raw, self._exchange, status, headers, end, response)
        with closed_after(body) as pieces, holding(self._loop, context) as stream:
            with suppress(RolloutClosed):  # which is nobody's fault
                self._loop.call(stream.begin)
                for piece in pieces:
                    self._loop.call(stream.send, piece)

    @block("stream")
    def open_stream(self) -> Iterator[SyncStream]:
        """Answer piece by piece: `with exchange.open_stream() as stream: stream.send("hel")`.

        Closing and errors: as `Exchange.open_stream`.
        """
        with holding(self._loop, self._exchange.open_stream()) as stream:
            yield SyncStream(stream, self._loop)

    def forward(self, handler: AnyHandler) -> None:
        """Let this handler answer: an async one (an upstream, a script, a cassette) in the endpoint's loop, a plain
        function here."""
        if is_async(handler):
            self._loop.call(self._exchange.forward, handler)
        else:
            cast(Callable[[SyncExchange], object], handler)(self)

    def annotate(self, **data: Json) -> None:
        """Put notes into the turn; errors as of `Exchange.annotate`."""
        self._loop.ask(partial(self._exchange.annotate, **data))


AnyHandler: TypeAlias = Callable[[Exchange], Awaitable[None]] | Callable[[SyncExchange], object]
"""Whatever answers an exchange: async, or a function that may block."""


def is_async(handler: AnyHandler) -> TypeGuard[Handler]:
    """Whether it gives something to await, as far as can be seen without a call."""
    inner: Any = handler
    while isinstance(inner, partial):
        inner = inner.func
    function = inner if inspect.isroutine(inner) else type(inner).__call__
    return inspect.iscoroutinefunction(function)


def loop_of(exchange: SyncExchange) -> Loop:
    """Where it lives."""
    return exchange._loop


def rollout_of(exchange: SyncExchange) -> Rollout:
    """The agent run that it belongs to, as the loop has it."""
    return exchange._exchange.rollout
