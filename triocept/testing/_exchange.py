"""Sync counterparts of `Exchange` and `ResponseStream`, for code outside the endpoint's loop. All methods block."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast, final

from .._canonical.content import Json
from .._canonical.events import Event
from .._canonical.request import Request
from .._canonical.response import ResponsePart, StopReason, Usage
from .._rollout.exchange import Answerable, Exchange, ResponseStream, open_raw
from .._rollout.handler import Handler
from .._rollout.raw_stream import closed_after
from .._trace.conversation import Conversation
from .._trace.raw import RawEnd, is_made_on_the_way
from .._trace.turn import Turn
from ..errors import RolloutClosed
from ._blocks import block
from ._held import holding
from ._loop import Loop

if TYPE_CHECKING:
    from ._rollout import SyncRollout


@final
class SyncStream:
    """An answer that is streamed, increment by increment. Only `SyncExchange.open_stream` creates instances."""

    def __init__(self, stream: ResponseStream, loop: Loop) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def ended(self) -> bool:
        """True if the event that ends the answer was sent."""
        return self._stream.ended

    def send(self, item: str | ResponsePart | Event) -> None:
        """Send one increment of the answer. Block until the agent's connection has accepted its bytes.

        Args:
            item: a `str` is appended to the current text part, or begins a new text part; a part is sent whole; an
                event is sent unchanged.

        Raises:
            Exception: see `ResponseStream.send` and `SyncExchange.respond`.
        """
        self._loop.call(self._stream.send, item)

    def end(
        self,
        *,
        stop_reason: StopReason | None = None,
        stop_sequence: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        """End the answer. Arguments and errors: see `ResponseStream.end`."""
        end = partial(self._stream.end, stop_reason=stop_reason, stop_sequence=stop_sequence, usage=usage)
        self._loop.call(end)


@final
class SyncExchange:
    """A model call of the agent, which waits for its answer. Only a `SyncRollout` creates instances.

    Like an `Exchange`, a `SyncExchange` gets exactly one outcome. Its methods block the calling thread. The methods may
    be called in any thread except the endpoint's thread.
    """

    def __init__(self, exchange: Exchange, rollout: SyncRollout, loop: Loop) -> None:
        self._exchange = exchange
        self._rollout = rollout
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._exchange)

    @property
    def id(self) -> str:
        """Id of the exchange, which is also the id of its turn in the trace."""
        return self._exchange.id

    @property
    def rollout(self) -> SyncRollout:
        """The rollout (agent run) to which this exchange belongs."""
        return self._rollout

    @property
    def request(self) -> Request:
        """The agent's request, converted to a `Request`, whatever the dialect."""
        return self._exchange.request

    @property
    def raw(self) -> Json:
        """The JSON body of the agent's request, decoded and otherwise unchanged.

        The value is a copy: if you change it, neither the trace nor another call changes.
        """
        return self._exchange.raw

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the agent's request, with names in lower case.

        A value that contains an API key is `[redacted]`.
        """
        return self._exchange.headers

    @property
    def query(self) -> str:
        """Query string of the request's URL, such as `beta=true`. Empty if the URL has no query."""
        return self._exchange.query

    @property
    def attempt(self) -> int:
        """Number of this try of the call, from 1, which the agent's SDK sends in a header; 1 if it sends no number."""
        return self._exchange.attempt

    @property
    def dialect(self) -> str:
        """Name of the API dialect in which the agent has sent the call, such as `openai_chat`."""
        return self._exchange.dialect

    @property
    def conversation(self) -> Conversation:
        """The conversation to which the call belongs; see `Exchange.conversation`."""
        return self._loop.ask(lambda: self._exchange.conversation)

    @property
    def settled(self) -> bool:
        """True if the exchange has an outcome, so that it cannot be answered any more."""
        return self._exchange.settled

    @property
    def turn(self) -> Turn | None:
        """The turn in the trace that records this exchange. None if the exchange is not recorded yet."""
        return self._exchange.turn

    def respond(self, answer: Answerable) -> None:
        """Answer with a whole response. If the agent requested a stream, the response is sent as a stream.

        This method returns when the answer is recorded and written to the agent's connection.

        Args:
            answer: a `Response`, or one part of a response; a `str` is text.

        Raises:
            TypeError, ValueError: the answer is invalid. The exchange has no outcome yet, and can still be answered.
            AlreadySettled, ExchangeAbandoned: see `Exchange.respond`.
            RuntimeError: the endpoint has ended, or this method was called in the endpoint's own thread or in another
                process.
            TimeoutError: the endpoint's loop is blocked; the error's text names the blocking function.

        Ctrl-C: has the same effect as a cancellation of `Exchange.respond`.
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
        """Answer with an HTTP error in the agent's dialect. Arguments and errors: see `Exchange.refuse`."""
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
        """Answer with raw bytes, which need not be valid, and end the answer as `end` specifies.

        Arguments and errors: see `Exchange.respond_raw`. If `body` is a plain generator, it runs in the calling thread,
        and may block. If `body` is an async generator, it runs in the endpoint's thread.
        """
        if isinstance(body, AsyncIterable) or not is_made_on_the_way(body):
            raw = partial(self._exchange.respond_raw, status, headers, body, end=end, response=response)
            self._loop.call(raw)
            return
        context = self._loop.ask(open_raw, self._exchange, status, headers, end, response)
        with closed_after(body) as pieces, holding(self._loop, context) as stream:
            with suppress(RolloutClosed):  # no error of this program
                self._loop.call(stream.begin)
                for piece in pieces:
                    self._loop.call(stream.send, piece)

    @block("stream")
    def open_stream(self) -> Iterator[SyncStream]:
        """Stream the answer piece by piece: `with exchange.open_stream() as stream: stream.send("hel")`.

        Closing and errors: see `Exchange.open_stream`.
        """
        with holding(self._loop, self._exchange.open_stream()) as stream:
            yield SyncStream(stream, self._loop)

    def forward(self, handler: AnyHandler) -> None:
        """Let `handler` answer. An async handler runs in the endpoint's loop; a plain function runs in this thread.

        Upstreams, scripts and cassettes are async handlers.
        """
        if is_async(handler):
            self._loop.call(self._exchange.forward, handler)
        else:
            cast(Callable[[SyncExchange], object], handler)(self)

    def annotate(self, **data: Json) -> None:
        """Add notes to the turn that records this exchange. Errors: see `Exchange.annotate`."""
        self._loop.ask(partial(self._exchange.annotate, **data))


AnyHandler: TypeAlias = Callable[[Exchange], Awaitable[None]] | Callable[[SyncExchange], object]
"""Handler of an exchange: async, or a plain function, which may block."""


def is_async(handler: AnyHandler) -> TypeGuard[Handler]:
    """Return True if the handler is an `async def` function, or an object with an async `__call__`."""
    return inspect.iscoroutinefunction(function_of(handler))


def function_of(handler: object) -> Any:
    """Return the function that runs when `handler` is called; None if `handler` is not callable, or is a class."""
    inner: Any = handler
    while isinstance(inner, partial):
        inner = inner.func
    if inspect.isroutine(inner):
        return inner
    return type(inner).__call__ if callable(inner) and not isinstance(inner, type) else None
