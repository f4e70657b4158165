"""hypercorn's HTTP/1.1, with three habits changed.

* While a request waits for its answer and its client has sent another one behind it, hypercorn reads no further, and so
  sees no hang-up. Here the connection reads on, into a buffer of `READ_AHEAD` bytes.
* A websocket message over the cap makes hypercorn close the socket, and read the rest into memory. Here the rest is
  thrown away, and the application is told: it gets a message without text and without bytes.
* Bytes behind the last request of a connection (some clients end a body with an empty line) make h11 answer 400 in
  place of the answer. Here they are not read.

`can_read`, `_create_stream`, `WSStream.buffer` are hypercorn's inside: the same in 0.17.3 and 0.18.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
import trio
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from wsproto.events import Message

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["HTTP1", "HungUp"]


class HungUp(Exception):
    """The client hung up while its request waited."""


class HTTP1(H11Protocol):
    """Speaks HTTP/1.1 on `connection`, in place of `other`, which hypercorn has made."""

    def __init__(self, other: H11Protocol, connection: Connection) -> None:
        super().__init__(
            other.app,
            other.config,
            other.context,
            other.task_group,
            other.connection_state,
            other.ssl,
            other.client,
            other.server,
            other.send,
        )
        self.can_read: Any = _Pause(connection)
        self.connection = _Parser(h11.SERVER, max_incomplete_event_size=other.config.h11_max_incomplete_size)
        self._connection = connection

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(request)
        if isinstance(self.stream, WSStream):
            self.stream.buffer = _MessageBuffer(self.config.websocket_max_message_size)


class _Parser(h11.Connection):
    """h11, without an eye for what comes behind the last request."""

    def next_event(self) -> Any:
        return h11.NEED_DATA if self.their_state is h11.MUST_CLOSE else super().next_event()


class _Pause:
    """hypercorn's event that says whether it may read on; whoever waits for it keeps an eye on the client."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._event = trio.Event()

    async def clear(self) -> None:
        self._event = trio.Event()

    async def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        event = self._event
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self._connection.read_ahead()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await event.wait()
            nursery.cancel_scope.cancel()
        if not event.is_set():
            raise HungUp


class _MessageBuffer(WebsocketBuffer):
    """Gathers the frames of one message; of one that is over the cap it keeps nothing."""

    def extend(self, event: Message[Any]) -> None:
        if self.length + len(event.data) > self.max_length:
            self.value, self.length = None, self.max_length  # and so is every frame that follows
        else:
            super().extend(event)
