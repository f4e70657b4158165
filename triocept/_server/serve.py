"""Start, run, end.

Rules (each had a test that failed without it):

1. `started()` comes after the application has started, the socket listens and the accept loop is there.
2. After `started()` the server never raises into the nursery of its caller: it keeps the crash and cancels the body.
3. The server outlives the body's clean-up: it is shielded, but only from `started()` on, and only if the caller's
   nursery has really taken it; earlier, a start that hangs could not be cancelled.
4. The end is always bounded: refuse what waits, let answers out for `grace` seconds, then break off what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from ssl import SSLContext
from typing import final

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from .._limits import EndpointLimits
from .._rollout.service import split_cancelled
from .connection import Connection
from .fast import FastWay
from .front import App, Front, fatal_of
from .lifespan import run_lifespan

__all__ = ["Server"]

log = logging.getLogger("triocept.endpoint")


@final
class Server:
    """One listener, one application, and all connections.

    Args:
        listener: bound and listening; the server closes it.
        ssl_context: None for plain HTTP.
        grace: seconds that connections have to end by themselves when the server stops.
        refuse_waiting: what is to be done with the calls that wait when the server stops.
        fast: whether model calls on HTTP/1.1 go straight to `Front.intake`, past hypercorn.
        max_body: bytes of one body, or one websocket message.
        limits: what the endpoint puts up with.
        http2: whether HTTP/2 is spoken on plain TCP.
    """

    def __init__(
        self,
        listener: trio.SocketListener,
        *,
        ssl_context: SSLContext | None,
        grace: float,
        refuse_waiting: Callable[[], Awaitable[None]],
        fast: bool,
        max_body: int,
        limits: EndpointLimits,
        http2: bool,
    ) -> None:
        self.body_scope = trio.CancelScope()
        """Around the body that needs the server: cancelled when there is no server any more."""
        self.fatal: BaseException | None = None
        """A `KeyboardInterrupt` that landed in the server."""
        self.crash: BaseException | None = None
        self.stopped = trio.Event()
        self._shutdown = trio.Event()
        self._listener = listener
        self._ssl_context = ssl_context
        self._grace = grace
        self._refuse_waiting = refuse_waiting
        self._fast = fast
        self._max_body = max_body
        self._limits = limits
        self._http2 = http2
        self._config = _config()
        self._context = WorkerContext(None)
        self._connections: set[Connection] = set()
        self._gone = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()

    def on_fatal(self, exc: BaseException) -> None:
        """Something that must end the program landed in the server: end the body, then raise it there."""
        self.fatal = self.fatal or exc
        self.body_scope.cancel()

    def kill(self) -> None:
        """End now, without grace."""
        self._scope.cancel()

    async def stop(self) -> None:
        """Ask it to end, and wait until it has: at most `grace` seconds and a moment.

        Cancellation: not from outside. A second Ctrl-C ends the wait, and the server at once.
        """
        self._shutdown.set()
        with trio.CancelScope(shield=True):
            try:
                await self.stopped.wait()
            except BaseException:
                self.kill()
                raise

    async def run(
        self, front: Front, quart: App, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Serve until `stop` is called. To be started in `nursery`.

        Raises:
            Exception: before `started()` only: what kept it from starting.
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
                await self._run(front, quart, publish)
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None:
                self._crashed(error)
                if not started:
                    raise
            if cancelled is not None:
                raise cancelled from None
        finally:
            if started and cancelled is None and not self._shutdown.is_set():
                self._crashed(self.crash or RuntimeError("the server ended without being asked to"))
            await self._release()
            self.stopped.set()

    async def _run(self, front: Front, quart: App, publish: Callable[[], None]) -> None:
        lifespan_end = trio.Event()
        async with trio.open_nursery() as lifespan:
            await lifespan.start(run_lifespan, quart, lifespan_end)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    handler = partial(self._serve_stream, front)
                    await accepting.start(
                        partial(trio.serve_listeners, handler, [self._secured()], handler_nursery=connections)
                    )
                    publish()
                    await self._shutdown.wait()
                    accepting.cancel_scope.cancel()  # serve_listeners closes the listener
                await self._end(connections)
            lifespan_end.set()

    def _secured(self) -> trio.SocketListener | trio.SSLListener[trio.SocketStream]:
        if self._ssl_context is None:
            return self._listener
        return trio.SSLListener(self._listener, self._ssl_context, https_compatible=True)

    async def _serve_stream(
        self, front: Front, stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream
    ) -> None:
        """One connection, and whatever happens in it."""
        app = wrap_app(front, self._config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]
        fast = partial(FastWay, routes=front.routes, intake=front.intake) if self._fast else None
        connection = Connection(
            app,
            self._config,
            self._context,
            stream,
            limits=self._limits,
            fast=fast,
            front=front,
            max_body=self._max_body,
            http2=self._http2,
        )
        self._connections.add(connection)
        try:
            await connection.run()
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None:
                self._connection_failed(error)
            if cancelled is not None:
                raise cancelled from None
        finally:
            await trio.aclose_forcefully(stream)
            self._connections.discard(connection)
            self._gone.unpark_all()

    def _connection_failed(self, error: BaseException) -> None:
        if (fatal := fatal_of(error)) is not None:
            self.on_fatal(fatal)
        else:
            log.warning("a connection failed, and was closed", exc_info=error)

    async def _end(self, connections: trio.Nursery) -> None:
        await self._refuse_waiting()
        await self._context.terminated.set()  # hypercorn closes what ends from here on
        for connection in tuple(self._connections):
            if connection.idle:
                await connection.abort()
        with trio.move_on_after(self._grace):
            while self._connections:
                await self._gone.park()
        for connection in tuple(self._connections):
            await connection.abort()
        connections.cancel_scope.cancel()

    async def _release(self) -> None:
        """Close what a start or a crash left open."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._listener)

    def _crashed(self, error: BaseException) -> None:
        if (fatal := fatal_of(error)) is not None:
            self.on_fatal(fatal)
            return
        self.crash = error
        self.body_scope.cancel()


def _config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("triocept.http")  # a str would have it print
    config.accesslog = None
    config.include_server_header = False
    config.keep_alive_timeout = float(
        "inf"
    )  # 5 s by default: an agent's next POST would meet a closed connection
    config.keep_alive_max_requests = 10**9
    config.h11_max_incomplete_size = (
        256 * 1024
    )  # a head; 16 KiB by default, and some agents send long headers
    return config
