"""An agent in memory, which sends model calls to a rollout without a socket, and reads the answers."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, Unpack, final

import h11
import trio

from ..._canonical.content import Json, Message
from ..._canonical.events import Event
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._rollout.addresses import DialectName
from ..._rollout.clients import ClientConfig, open_client
from ..._rollout.handler import Handler
from ..._rollout.options import RolloutOptions
from ..._rollout.rollout import Rollout, core_of_rollout
from ..._server.lifespan import run_lifespan
from ..._server.serve import Body, Connections
from ..._upstream.patience import FIRST_PAUSE, retry_pause, wait_of
from ..._util.checks import check_count, check_number, check_type, described
from ..._util.contexts import protected_context
from ..._util.failures import keeping, keeping_each, raise_all
from ..._util.limits import EndpointLimits
from ...dialects import Dialect
from ...dialects.kit import encode_json
from ...errors import UpstreamError
from .._rollout import SyncRollout
from .call import MemoryCall
from .rollout import open_rollout
from .stream import memory_stream_pair
from .wire import events_in, head_of, response_in, written

Asked: TypeAlias = str | Iterable[Message] | Request | Mapping[str, Json]
"""Input of a model call: a text, messages, a `Request`, or a JSON document of the dialect. A document is sent
unchanged."""

_MAX_BODY = 256 * 1024 * 1024
"""Maximum bytes of a request's body; an endpoint has the same limit."""
_FOR_EVER = 1e9
"""Seconds for all time limits of the server: so many that a mock clock, which jumps ahead, never reaches them."""
_GRACE = 1.0
"""Maximum seconds that the server may take to end its connections after the agent has disconnected."""
_LIMITS = EndpointLimits(
    head_seconds=_FOR_EVER, keyless_seconds=_FOR_EVER, body_seconds=_FOR_EVER, reader_seconds=_FOR_EVER
)


@final
class MemoryAgent:
    """An agent that calls a rollout in memory, without a socket. Only `open_memory_agent` creates instances."""

    def __init__(
        self,
        rollout: Rollout,
        dialect: Dialect,
        nursery: trio.Nursery,
        accept: Callable[[Any], None],
        *,
        retries: int,
        timeout: float,
    ) -> None:
        self.rollout: Rollout = rollout
        """The rollout that the agent calls."""
        self.dialect: Dialect = dialect
        """The dialect of the agent."""
        self.calls: list[MemoryCall] = []
        """The agent's calls so far, oldest first. Each retry is a separate item."""
        self._nursery = nursery
        self._accept = accept
        self._retries = retries
        self._timeout = timeout
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryAgent of {self.rollout!r}: {self.dialect.name}, {len(self.calls)} calls>"

    async def ask(
        self,
        asked: Asked,
        *,
        stream: bool | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send a model call, wait for the whole answer as a real client does, and return it.

        Args:
            asked: a text, messages, a `Request` of any dialect, or a JSON document of the agent's dialect, which is
                sent unchanged.
            stream: True to request a stream. None means the value in the `Request` or the document; if neither contains
                a value, False.
            headers: additional headers; they replace default headers of the same name.
            timeout: maximum seconds without a byte. When exceeded: the agent disconnects and raises `TimeoutError`.
                None means the `timeout` of `open_memory_agent`.

        Raises:
            UpstreamError: the call was refused, or the answer is invalid. For a refusal, the error has the `status`,
                `message`, `code` and `headers` of the refusal. `UpstreamTruncated` is raised if the answer is
                incomplete.
            ExchangeAbandoned: `hang_up` was called.
            TimeoutError: no byte arrived in time.
            TypeError, ValueError, DialectError: `asked` or a header cannot be sent.

        Cancellation: disconnects the call.
        """
        tries = 0
        while True:
            tries += 1
            call = self._start(asked, stream, headers, timeout, tries)
            try:
                return await response_in(call, self.dialect)
            except UpstreamError as exc:
                pause = retry_pause(exc, tries, self._retries)
                if pause is None or (call.status == 200 and call.is_stream):
                    raise
                told = wait_of(exc)
                pause = FIRST_PAUSE * 2.0 ** (tries - 1) if told is None else told  # without jitter
            finally:
                call.hang_up()
            await trio.sleep(pause)

    @asynccontextmanager
    async def open_stream(
        self,
        asked: Asked,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Request a streamed answer, and yield its events: `async with agent.open_stream("hi") as events`.

        Args: see `ask`. The call is not retried.

        Closing: disconnects the call if its answer has not ended.

        Raises: see `ask`. If the call is refused, the error is raised before the block begins. All other errors are
        raised while the stream is read.
        """
        call = self._start(asked, True, headers, timeout)
        try:
            await call.wait_head()
            if call.status != 200 or not call.is_stream:
                await response_in(call, self.dialect)
                raise UpstreamError("the answer is not a stream", headers=call.headers)
            events = events_in(call, self.dialect)
            try:
                yield events
            finally:
                await events.aclose()  # type: ignore[attr-defined]
        finally:
            call.hang_up()

    def client(self, **options: Any) -> Any:
        """Return an async client of the official SDK for the agent's dialect.

        The client calls the rollout without a socket.

        The client's retries and its read timeout use trio's clock.

        Args:
            options: options of the client's constructor (`max_retries`, `timeout`, …).

        Raises:
            ModuleNotFoundError: the SDK is not installed, or its version does not use httpx2 (the versions openai 3 and
                anthropic 2 use it).
            ValueError: no SDK exists for this dialect.
        """
        from .http import MemoryHTTPTransport, http_client  # imports httpx2, which is needed here alone

        rollout = self.rollout
        base_url = f"http://memory/rollout/{rollout.id}{self.dialect.base_path}"
        config = ClientConfig(base_url=base_url, api_key=rollout.api_key, model=rollout.model)
        if self.dialect.sdk is not None:
            http = http_client(self.dialect.sdk.package, MemoryHTTPTransport(self._begin), options)
            options = {**options, "http_client": http}
        return open_client(self.dialect, config, sync=False, options=options)

    def start(
        self,
        asked: Asked,
        *,
        stream: bool | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> MemoryCall:
        """Send a model call without waiting for the answer. Return a `MemoryCall`, which collects the answer.

        Args: see `ask`. The call is not retried.

        Raises:
            TypeError, ValueError, DialectError: `asked` or a header cannot be sent.
        """
        return self._start(asked, stream, headers, timeout)

    def hang_up(self) -> None:
        """Disconnect all open calls. Each `ask` that waits for an answer then raises `ExchangeAbandoned`."""
        for call in self.calls:
            call.hang_up()

    def _start(
        self,
        asked: Asked,
        stream: bool | None,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        attempt: int = 1,
    ) -> MemoryCall:
        rollout = self.rollout
        request, document = written(asked, self.dialect, rollout.model, stream=stream)
        count = {"x-stainless-retry-count": str(attempt - 1)} if attempt > 1 else {}
        body = encode_json(document)
        head = head_of(request, self.dialect, rollout, len(body), {**count, **(headers or {})})
        return self._begin(head, body, self._timeout if timeout is None else timeout)

    def close(self) -> None:
        """Disconnect all open calls. All later calls raise RuntimeError."""
        self._closed = True
        self.hang_up()

    def _begin(self, head: h11.Request, body: bytes, timeout: float) -> MemoryCall:
        if self._closed:
            raise RuntimeError("this agent has ended: use it within the block of its `open_memory_agent`")
        own, end = memory_stream_pair()
        call = MemoryCall(own, head, body, timeout)
        self.calls.append(call)
        self._accept(end)
        self._nursery.start_soon(call.send)
        self._nursery.start_soon(call.run)
        return call


@protected_context
async def open_memory_agent(
    handler: Handler | Rollout | None = None,
    *,
    dialect: DialectName | str | Dialect = "openai_chat",
    retries: int = 0,
    timeout: float = math.inf,
    **options: Unpack[RolloutOptions],
) -> AsyncIterator[MemoryAgent]:
    """Open an agent that calls a rollout without a socket; `answer = await agent.ask("hello")` sends a call.

    Requests and answers are encoded in the dialect's wire format and in HTTP/1.1. The code of the real server handles
    them, with keep-alives, retries and errors; only the connection is in memory. So a test can use trio's mock clock:
    300 seconds of silence take no real time. The time limits of the server are so long that none of them ends a
    connection.

    Args:
        handler: a handler, for which a rollout is opened; or an open `Rollout` (of an endpoint, or of
            `triocept.testing.open_rollout`), which the agent calls. If None, a rollout without a handler is opened, and
            the body must answer the exchanges of `agent.rollout`.
        dialect: dialect of the agent: a name, or, if `handler` is not a `Rollout`, a `Dialect` that the program has
            defined.
        retries: maximum retries of a call after a temporary error. The agent retries by the rules of the SDKs of OpenAI
            and Anthropic.
        timeout: maximum seconds without a byte, like a client's read timeout. When exceeded: the agent disconnects and
            raises `TimeoutError`.
        options: options of the opened rollout; see `Endpoint.open_rollout`.

    Closing: disconnects the agent, then closes the opened rollout.

    Raises:
        TypeError, ValueError: an argument is invalid.
        BaseException: the exceptions of the body and of the handler. A single exception is not wrapped in a group.
    """
    check_count("retries", retries)
    check_number("timeout", timeout, positive=True, infinite=True)
    own = (dialect,) if isinstance(dialect, Dialect) else ()
    async with AsyncExitStack() as stack:
        if isinstance(handler, SyncRollout):
            raise TypeError(
                "an agent in memory can call a Rollout, but a SyncRollout belongs to another thread"
            )
        if isinstance(handler, Rollout):
            if options:
                names = ", ".join(options)
                raise TypeError(
                    f"{names} are options for opening a rollout, but the given rollout is already open"
                )
            rollout = handler
        else:
            rollout = await stack.enter_async_context(open_rollout(handler, dialects=own, **options))
        async with _open(rollout, dialect, retries, timeout) as agent:
            yield agent


@protected_context
async def _open(
    rollout: Rollout, dialect: str | Dialect, retries: int, timeout: float
) -> AsyncIterator[MemoryAgent]:
    core = core_of_rollout(rollout)
    dialects: Mapping[str, Any] = core.addresses.dialects  # the state declares a narrower type
    name = dialect.name if isinstance(dialect, Dialect) else dialect
    check_type("dialect", name, str, "the name of a dialect, or a Dialect")
    if name not in dialects:
        raise ValueError(f"unknown dialect {described(name)}; the dialects are {', '.join(dialects)}")
    body = Body()
    connections = Connections(
        registry=core.registry,
        dialects=dialects,
        endpoint_id="memory",
        ssl_context=None,
        limits=_LIMITS,
        max_body=_MAX_BODY,
        websocket=True,
        keep_alive=True,
        on_fatal=body.on_fatal,
    )
    errors: list[BaseException] = []
    with keeping_each(errors):
        async with trio.open_nursery() as nursery:
            ending = trio.Event()
            server = await nursery.start(_serve, connections, ending)

            def accept(end: Any) -> None:  # it has all that the server uses of a `SocketStream`
                server.start_soon(connections.serve, connections.enter(end))

            agent = MemoryAgent(rollout, dialects[name], server, accept, retries=retries, timeout=timeout)
            with keeping(errors), body.scope:
                yield agent
            agent.close()
            ending.set()
    if body.fatal is not None:
        errors.insert(0, body.fatal)
    raise_all(errors)


async def _serve(
    connections: Connections, ending: trio.Event, *, task_status: trio.TaskStatus[trio.Nursery]
) -> None:
    """Run the nursery of the connections until `ending` is set, even if the caller's block is cancelled earlier."""
    ended = trio.Event()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as lifespan:
            await lifespan.start(run_lifespan, connections.quart, ended)
            async with trio.open_nursery() as nursery:
                scope.shield = True
                task_status.started(nursery)
                await ending.wait()
                await connections.end(_GRACE)
                nursery.cancel_scope.cancel()
            ended.set()
