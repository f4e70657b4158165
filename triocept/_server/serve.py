"""Start the server of an endpoint, accept and serve its connections, and end it.

This module is imported when the first endpoint is opened, because Quart and hypercorn take a while to load.

Rules (for each rule, there is a test that failed before the rule was implemented):

1. `started()` is called after the application has started, the socket listens and the accept loop runs.
2. After `started()`, the server raises no exception into its caller's nursery. If the server crashes, it stores the
   exception and cancels the body.
3. The server is shielded from cancellation, so that it still runs during the body's clean-up. The shield begins with
   `started()`, so that a hanging start can be cancelled. There is a shield only if the server's task was started in the
   caller's own nursery.
4. The server ends within a bounded time. The server refuses waiting exchanges, gives answers in progress `grace`
   seconds to finish, then closes the remaining connections.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from ssl import SSLContext
from typing import Any, final

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from .._rollout.registry import Registry
from .._rollout.rollout_state import RolloutState
from .._util.failures import split_cancelled
from .._util.limits import MOMENT_TURNS, EndpointLimits, wait_turns
from ..dialects import Dialect
from .admission import Admission
from .app import make_app
from .base_connection import CountedReads
from .connection import TOO_MANY, Connection
from .front import Front, fatal_of
from .http11 import HTTP11
from .intake import Routes
from .keys import Keys
from .lifespan import run_lifespan
from .listen import accept_waiting, shutting_down
from .replies import Replies
from .transport import View

log = logging.getLogger("triocept.endpoint")

_AT_CAPACITY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""Error numbers of accept(2) that mean that the process or the system has no resources left."""
OWN_HTTP1: ContextVar[bool] = ContextVar("own_http1", default=True)
"""If False, a new server serves model calls through hypercorn and ASGI, like all other requests. Only tests set it."""
_ACCEPTED_AT_ONCE = 32
"""Maximum connections that are accepted in one turn of the event loop. Accepting them takes about 5 ms."""
_BREATH = 0.1
"""Seconds to wait before the server tries to accept again if no file descriptor was free. Also the maximum seconds for
answering a refused connection."""
_MOST_REFUSED = 32
"""Maximum connections that are answered with 503 at the same time. Further connections are closed without an answer."""
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""Exceptions that a connection raises if its client has disconnected, or if this program has closed the connection."""


@final
class Body:
    """The body of the `async with serve_endpoint()` block, which runs while the server runs.

    If the server fails, it stores the exception in this object, and cancels the body.

    Parts of the server that cancel the body refer to the `Body`, and not to the server. So there is no reference
    cycle, and Python frees the server as soon as its last reference is deleted.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.fatal: BaseException | None = None
        """An exception in the server because of which the program must end, such as a `KeyboardInterrupt`."""
        self.crash: BaseException | None = None
        """The exception that ended the server; None while it works."""

    def on_fatal(self, exc: BaseException) -> None:
        """Cancel the body because of `exc`, an exception that must end the program. The body then raises `exc`."""
        self.fatal = self.fatal or exc
        self.scope.cancel()

    def on_crash(self, error: BaseException) -> None:
        if (fatal := fatal_of(error)) is not None:
            self.on_fatal(fatal)
            return
        self.crash = error
        self.scope.cancel()


@final
class Connections:
    """The open connections of one endpoint, and the applications that answer their requests.

    The class `Server` adds a listener, and ends the connections within a limited time. An endpoint in memory (see
    `testing`) needs only this class.

    `max_body` is the maximum size of a body, and of a websocket message, in bytes. If `keep_alive` is True, several
    requests may be sent on one connection. `on_fatal` is called with an exception that must end the program.
    """

    def __init__(
        self,
        *,
        registry: Registry[RolloutState],
        dialects: Mapping[str, Dialect],
        endpoint_id: str,
        ssl_context: SSLContext | None,
        limits: EndpointLimits,
        max_body: int,
        websocket: bool,
        keep_alive: bool,
        on_fatal: Callable[[BaseException], None],
        view: View | None = None,
    ) -> None:
        self.admission = admission = Admission(limits)
        self.open: set[Connection] = set()
        self.gone = trio.lowlevel.ParkingLot()
        """Tasks that wait until some connection has ended."""
        keys = Keys(registry, dialects.values())
        replies = Replies(
            keys, dialects, notices=admission.notices, max_body=max_body, endpoint_id=endpoint_id
        )
        quart: Any = make_app(keys, dialects, replies)
        self.quart = quart
        """The ASGI application for all requests except model calls. `run_lifespan` starts and stops it."""
        front = Front(
            quart,
            Routes(dialects.values()),
            keys,
            replies,
            admission=admission,
            max_body=max_body,
            websocket=websocket,
            on_fatal=on_fatal,
            view=view,
        )
        self._ssl_context = ssl_context
        self._keep_alive = keep_alive
        self._on_fatal = on_fatal
        config = _config(keep_alive=keep_alive)
        self._context = WorkerContext(None)
        self._make = partial(
            Connection,
            wrap_app(front, config.wsgi_max_body_size, "asgi"),  # type: ignore[arg-type]
            config,
            self._context,
            admission=admission,
            http11=partial(HTTP11, front=front) if OWN_HTTP1.get() else None,
            front=front,
            max_body=max_body,
        )

    def enter(self, plain: trio.SocketStream) -> Connection:
        """Register a new connection and return it. The caller must then call `serve` with it."""
        stream: trio.SSLStream[CountedReads] | trio.SocketStream = plain
        if self._ssl_context is not None:
            stream = trio.SSLStream(
                CountedReads(plain), self._ssl_context, server_side=True, https_compatible=True
            )
        connection = self._make(stream)
        connection.ending = not self._keep_alive
        self.open.add(connection)
        self.admission.enter(connection)
        return connection

    @trio.lowlevel.enable_ki_protection
    async def serve(self, connection: Connection) -> None:
        """Serve one connection until it ends, and close it. Errors of the connection are logged, not raised."""
        try:
            await connection.run()
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None and (fatal := fatal_of(error)) is not None:
                self._on_fatal(fatal)
            elif error is not None:
                group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
                gone, fault = group.split(_GONE)
                if fault is not None:
                    log.warning(
                        "a connection was closed because of an error",
                        exc_info=fault if group is error else error,
                    )
                elif gone is not None:
                    log.debug("a connection failed: %r", error)
            if cancelled is not None:
                raise cancelled from None
        finally:
            await trio.aclose_forcefully(connection.stream)
            self.open.discard(connection)
            self.admission.leave(connection)
            connection.leave_rollout()
            self.gone.unpark_all()

    async def end(self, grace: float) -> None:
        """Close idle connections immediately. Close every other connection after the response that it is sending.

        After `grace` seconds, close all remaining connections.
        """
        for connection in self.open:
            connection.ending = True
        await self._context.terminated.set()  # from here on hypercorn closes connections after their response
        for connection in tuple(self.open):
            if connection.idle:
                await connection.abort()
        with trio.move_on_after(grace):
            while self.open:
                await self.gone.park()
        for connection in tuple(self.open):
            await connection.abort()


@final
class Server:
    """A server on one listener, with the connections that it accepts. When it ends, it closes the listener.

    When the server stops, waiting exchanges are refused, and open connections have `grace` seconds to finish. `options`
    are the arguments of `Connections`.
    """

    def __init__(
        self,
        listener: trio.SocketListener,
        *,
        registry: Registry[RolloutState],
        ssl_context: SSLContext | None,
        grace: float,
        view: View | None = None,
        **options: Any,
    ) -> None:
        self.body = Body()
        self._view = view
        self.stopped = trio.Event()
        self._shutdown = trio.Event()
        self._listener = listener
        self._secure = ssl_context is not None
        self._grace = grace
        self._registry = registry
        self._connections = Connections(
            registry=registry, ssl_context=ssl_context, on_fatal=self.body.on_fatal, view=view, **options
        )
        self._admission = self._connections.admission
        self._refusing = 0
        self._scope = trio.CancelScope()

    def kill(self) -> None:
        self._scope.cancel()

    async def stop(self) -> None:
        """Stop the server and wait until it has ended. This takes little more than `grace` seconds at most.

        Cancellation has no effect. A second Ctrl-C ends the wait and kills the server.
        """
        self._shutdown.set()
        with trio.CancelScope(shield=True):
            try:
                await self.stopped.wait()
            except BaseException:
                self.kill()
                raise

    @trio.lowlevel.enable_ki_protection
    async def run(self, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the server until `stop` is called. The caller must start this function in `nursery`.

        Raises:
            Exception: the reason why the server did not start. This exception is raised only before `started()`.
        """
        started = False

        def publish() -> None:
            nonlocal started
            task_status.started()
            started = True
            if trio.lowlevel.current_task().parent_nursery is nursery:
                self._scope.shield = True

        cancelled: BaseException | None = None
        try:
            with self._scope:
                await self._run(publish)
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None:
                self.body.on_crash(error)
                if not started:
                    raise
            if cancelled is not None:
                raise cancelled from None
        finally:
            if started and cancelled is None and not self._shutdown.is_set():
                self.body.on_crash(self.body.crash or RuntimeError("the server ended before it was stopped"))
            with trio.CancelScope(shield=True):  # it may still be open after a failed start or a crash
                await trio.aclose_forcefully(self._listener)
            self.stopped.set()

    async def _run(self, publish: Callable[[], None]) -> None:
        lifespan_end = trio.Event()
        async with trio.open_nursery() as lifespan:
            await lifespan.start(run_lifespan, self._connections.quart, lifespan_end)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._admission.watch)
                    await accepting.start(self._accept, connections)
                    publish()
                    await self._shutdown.wait()
                    accepting.cancel_scope.cancel()
                await self._registry.close()
                if self._view is not None:
                    self._view.end()
                await self._connections.end(self._grace)
                connections.cancel_scope.cancel()
            lifespan_end.set()

    @trio.lowlevel.enable_ki_protection
    async def _accept(self, connections: trio.Nursery, *, task_status: trio.TaskStatus[None]) -> None:
        """Accept connections until cancelled.

        Several connections are accepted in one turn of the event loop. Otherwise a new agent would wait one turn of the
        event loop for each earlier client in the kernel's queue. While accepted connections wait to be read, further
        connections stay in the kernel's queue, where a client that disconnects costs least.
        """
        async with self._listener:
            with shutting_down(self._listener):
                task_status.started()
                while True:
                    # accept(2) allocates a descriptor first: if none is left, it fails even if no connection waits.
                    await trio.lowlevel.wait_readable(self._listener.socket)
                    try:
                        for stream in accept_waiting(self._listener, _ACCEPTED_AT_ONCE):
                            self._enter(stream, connections)
                            if self._admission.crowded:
                                break
                    except OSError as exc:
                        if exc.errno not in _AT_CAPACITY:
                            raise
                        self._admission.notices.warn(
                            "accept",
                            "the endpoint cannot accept a new connection now, and tries again: %s",
                            exc.strerror,
                        )
                        await wait_turns(MOMENT_TURNS)  # until the key of the last connection is read
                        if not self._admission.shed():  # no descriptor was freed
                            await trio.sleep(_BREATH)

    def _enter(self, stream: trio.SocketStream, connections: trio.Nursery) -> None:
        if not self._admission.has_capacity():
            connections.start_soon(self._refuse, stream)
            return
        connections.start_soon(self._connections.serve, self._connections.enter(stream))

    @trio.lowlevel.enable_ki_protection
    async def _refuse(self, stream: trio.SocketStream) -> None:
        """Send 503 to a new connection, and close it after a moment.

        During this moment, receive and discard the client's bytes.

        If the connection were closed immediately, it would be reset, and the client would not receive the 503.
        """
        text = "a new connection was refused with the status 503, because too many connections are open"
        self._admission.notices.warn("full", text)
        self._refusing += 1
        try:
            with trio.move_on_after(_BREATH), suppress(trio.BrokenResourceError):
                if not self._secure and self._refusing <= _MOST_REFUSED:
                    await stream.send_all(TOO_MANY)
                    await stream.send_eof()
                    async for _ in stream:
                        pass
        finally:
            self._refusing -= 1
            await trio.aclose_forcefully(stream)


def _config(*, keep_alive: bool) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("triocept.http")  # with a str hypercorn would print
    config.accesslog = None
    config.include_server_header = False
    # With the default, 5 s, an agent's next POST could find its connection closed.
    config.keep_alive_timeout = float("inf")
    config.keep_alive_max_requests = 10**9 if keep_alive else 0
    return config
