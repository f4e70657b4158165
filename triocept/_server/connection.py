"""One connection: hypercorn's TCPServer, made a fault domain of its own.

hypercorn 0.18 has three habits that an endpoint cannot live with (each has a regression test in
tests/server/test_findings.py):

* an unexpected exception of one connection leaves the server's nursery, and takes every other connection along;
* it shields `send_all` without a deadline, so that a client which stops reading outlives cancellation and shutdown;
* it knows no way to break a connection off on purpose, which is how an agent must see a stream that failed.

And two that cost a fifth of a request's time: a task for the idle timer of each request, which here is none (a
connection may idle for ever, until the server stops), and a send of its own for a response's head.

`TCPServer(app, config, context, state, stream)` is hypercorn's inside: the same in 0.17.3 and 0.18.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState

if TYPE_CHECKING:
    from hypercorn.config import Config
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import AppWrapper

__all__ = ["STATE_KEY", "Connection"]

STATE_KEY = "triocept.connection"
"""Where an ASGI scope's `state` holds the connection that it came on."""


class Connection(TCPServer):
    """One connection, from its first byte to its close."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream,
    ) -> None:
        super().__init__(app, config, context, ConnectionState({STATE_KEY: self}), stream)  # type: ignore[arg-type]
        self.idle_task = _NoTask()  # type: ignore[assignment]
        self.idle = True
        """Whether it waits for a request, and nothing is lost by closing it."""
        self._corked: bytearray | None = None

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self.idle = event.idle
        else:
            await super().protocol_send(event)

    def cork(self) -> None:
        """Hold back what is sent, until `uncork`."""
        self._corked = bytearray()

    async def uncork(self) -> None:
        """Send what was held back, in one piece."""
        data, self._corked = self._corked, None
        if data:
            await self._send(data)

    async def _send(self, data: bytes | bytearray) -> None:
        """Send. A send that is cancelled has sent who knows how much: it breaks the connection off."""
        if self._corked is not None:
            self._corked += data
            return
        if not data:
            return
        async with self.send_lock:
            try:
                await self.stream.send_all(data)
            except trio.Cancelled:
                await self.abort()
                raise
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())

    async def abort(self) -> None:
        """Break the connection off: no further byte, no clean end."""
        await trio.aclose_forcefully(self.stream)


class _NoTask:
    """Stands in for hypercorn's idle timer."""

    async def restart(self, task_group: object, action: object) -> None:
        pass

    async def stop(self) -> None:
        pass
