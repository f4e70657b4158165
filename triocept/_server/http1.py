"""hypercorn's HTTP/1.1 implementation, changed in six ways.

* If a client sends its next request before the answer to the first, hypercorn stops reading, so it does not notice when
  the client hangs up. This implementation continues to read, into a buffer of `READ_AHEAD` bytes.
* From the upgrade request on, a websocket (`websocket_connection`) is the only reader and writer of the connection.
* No request reaches hypercorn's HTTP/2: the preface of HTTP/2 is refused with 505, and `Upgrade: h2c` is ignored
  (RFC 9113, 3.1; Java's HttpClient sends it with each first request).
* `100 Continue` is sent when the body is read, which is always after the check of the key.
* If bytes follow the last request of a connection, h11 sends 400 in place of the answer. (Some clients end a body with
  an empty line.) This implementation ignores such bytes.
* The number of lines in a head, or in a body's trailers, is limited. The lines are counted before h11 creates objects
  for these lines.

`can_read`, `_check_protocol`, `_create_stream`, `_send_error_response` are internals of hypercorn, identical in 0.17.3
and 0.18.0. `_receive_buffer` and its `maybe_extract_lines` are internals of h11, identical in 0.14.0 and 0.16.0.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import h11
import trio
from h11._receivebuffer import ReceiveBuffer, blank_line_regex
from hypercorn.events import Closed
from hypercorn.protocol.h11 import H11Protocol

from .._util.limits import EndpointLimits
from .intake import split_target
from .keys import text_headers
from .transport import Head
from .websocket_connection import wants_websocket

if TYPE_CHECKING:
    from .connection import Connection

_CONTINUE = h11.InformationalResponse(status_code=100, headers=[])


class HungUp(Exception):
    """Error: the connection has ended, because the client or another protocol implementation has closed it."""


class HTTP1(H11Protocol):
    """hypercorn's HTTP/1.1 implementation for one connection, with the changes in the docstring of this module.

    The object takes the place of `other`, hypercorn's own object, on the same connection.
    """

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
        self.connection = _Parser(connection.limits)
        self._connection = connection

    async def send_continue(self) -> None:
        parser: Any = self.connection
        if parser.client_is_waiting_for_100_continue:
            await self._send_h11_event(_CONTINUE)

    @property
    def head_begun(self) -> int:
        """Number of received bytes that belong to a request head which is still incomplete."""
        return self.buffered if self.connection.their_state is h11.IDLE else 0

    @property
    def buffered(self) -> int:
        parser: Any = self.connection
        return len(parser._receive_buffer)

    def drop(self) -> None:
        parser: Any = self.connection
        parser._receive_buffer.drop()

    async def _check_protocol(self, event: h11.Request) -> None:
        if self._connection.gone:  # no answer is needed: this pipelined request may be one of thousands
            raise HungUp
        if (event.method, event.target, event.http_version) != (b"PRI", b"*", b"2.0"):
            return
        await self._connection.refuse_http2()
        await self.send(Closed())
        raise HungUp

    async def _send_error_response(self, status_code: int) -> None:
        await super()._send_error_response(status_code)
        if status_code == 431:  # closing at once would reset the connection, and the answer would be lost
            limits = self._connection.limits
            self._connection.note(
                "refused 431",
                "a request was refused with the status 431, because its head has more than %d bytes or %d lines",
                limits.head_bytes,
                limits.head_lines,
            )
            self.drop()
            await self._connection.throw_away()

    async def _create_stream(self, request: h11.Request) -> None:
        headers = text_headers(request.headers, self._connection.key_places)
        if wants_websocket(request.method.decode("ascii"), headers):
            path, _, query = request.target.decode("latin-1").partition("?")
            rest = bytes(self.connection.trailing_data[0])  # the bytes that followed the request
            self.drop()
            path, authority = split_target(path)
            await self._connection.run_websocket(Head("GET", path, query, headers, authority), rest)
            raise HungUp
        await super()._create_stream(request)
        self._connection.queued = 0
        stream: Any = self.stream
        stream.app_put = partial(self._connection.queue, put=stream.app_put)


class _Parser(h11.Connection):
    """h11's parser of a connection, changed so that it ignores bytes after the last request."""

    def __init__(self, limits: EndpointLimits) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._receive_buffer = _Received(limits.head_lines)

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        """Always False.

        If it were True, hypercorn would send `100 Continue` before the key is checked.
        """
        return False

    def next_event(self) -> Any:
        return h11.NEED_DATA if self.their_state is h11.MUST_CLOSE else super().next_event()


class _Received(ReceiveBuffer):
    """h11's buffer for received bytes, changed so that the number of header lines is limited."""

    def __init__(self, most_lines: int) -> None:
        super().__init__()
        self._most_lines = most_lines
        self._lines = self._counted = 0

    def maybe_extract_lines(self) -> list[bytearray] | None:
        self._lines += self._data.count(b"\n", self._counted)
        self._counted = len(self._data)
        if self._lines > self._most_lines:  # some of the lines may belong to the next request
            end = blank_line_regex.search(self._data)
            lines = self._data.count(b"\n", 0, end.start() if end else None)
            if lines > self._most_lines + (end is None):
                raise h11.RemoteProtocolError("too many header lines", error_status_hint=431)
        return super().maybe_extract_lines()

    def _extract(self, count: int) -> bytearray:
        taken = super()._extract(count)
        # Keep the count of the remaining lines, which may belong to thousands of pipelined requests.
        self._lines -= taken.count(b"\n", 0, self._counted)
        self._counted = max(0, self._counted - count)
        return taken

    def drop(self) -> None:
        self._extract(len(self._data))


class _Pause:
    """Replacement for the event on which hypercorn waits before it reads again.

    While a task waits for the event, the connection reads further bytes, so that it notices a disconnect.
    """

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

            @trio.lowlevel.enable_ki_protection
            async def watch() -> None:
                await self._connection.read_ahead()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await event.wait()
            nursery.cancel_scope.cancel()
        if not event.is_set():
            raise HungUp
