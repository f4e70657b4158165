"""HTTP/2 (RFC 9113) on one connection, for those who have asked for it: `serve_endpoint(http2=True)`.

`h2` reads and writes the frames; hypercorn has no part in it, whose buffers outlive their clients. A request becomes an
ASGI call of `Front`, as one of HTTP/1.1 that is not on its own way.

Rules:

1. A connection has two tasks, one that reads and one that writes, and each of its streams has one. They share one state
   machine, and nothing waits between asking it and telling it.
2. Whoever has something to send waits itself, until its stream's window, the connection's and the socket have room:
   nothing is put aside that could outlive its stream.
3. What ends a stream (RST_STREAM, the end of the connection) wakes whoever waits for it. A stream that is not answered
   to its end is reset; no other stream is touched. A frame of 13 bytes wakes one stream, and not a thousand: who waits
   for what all share (the connection's window, the socket) is in a queue, and lets the next one on when it is through.
4. A request that is answered before its body was read has its answer whole. The rest of its body is thrown away for a
   while, which keeps the windows open; then the stream is reset with NO_ERROR (RFC 9113, 8.1).
5. Frames that cost their sender nothing (PRIORITY, PING, SETTINGS, RST_STREAM, empty DATA) have an allowance. Over it,
   and for anything that is no HTTP/2, the connection ends with GOAWAY and one line in the log. Until a request has
   shown a key, one that is reset counts for `RESET` of them.
6. No stream is opened while `MAX_STREAMS` have a task (`KEYLESS_STREAMS` before a request has shown a key), though the
   client may have reset some of them. A request that was reset before its task's first step is not looked at.
7. Nobody may hold a connection open by taking nothing: a window that stays shut for `reader_seconds` is a hang-up of
   its stream, a socket that does is one of its connection.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, final

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

from .._failures import split_cancelled
from .._rollout.answer import Condition
from .base_connection import MAX_RECEIVE, BaseConnection
from .http2_frames import Frames
from .http2_stream import Malformed, Stream, read_head
from .notices import shown

if TYPE_CHECKING:
    from .._limits import EndpointLimits
    from .transport import Head

__all__ = ["HTTP2"]

MAX_STREAMS = 1000
"""At once on one connection. A proxy may bring the calls of many rollouts, and each may wait for minutes."""
KEYLESS_STREAMS = 100
"""At once on a connection on which no request has shown a key. RFC 9113, 6.5.2, asks for 100 at least."""
CONNECTION_WINDOW = 16 * 1024 * 1024
"""Bytes of bodies that a client may send before they are read, on all streams of a connection."""
MAX_OUT = 64 * 1024
"""Bytes that wait for the socket. Over it no stream sends, and over four times as much nothing is read."""
PIECE = 4096
"""Bytes that are read between two schedule points: no more than 450 frames. A frame that is longer is read whole."""
KEYLESS_PIECE = 512
"""The same before a request has shown a key. One of 32 bytes that is told 404 takes a millisecond."""
CLOSE_WITHIN = 2.0
"""Seconds for a GOAWAY and what is before it."""

WINDOW_SIZE = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE

log = logging.getLogger("triocept.endpoint")
Codes = h2.errors.ErrorCodes


class _Ended(Exception):
    """The connection has to end; GOAWAY is on its way."""


@final
class HTTP2:
    """One connection.

    Args:
        connection: what it is spoken on. Nobody else reads from it, or writes to it, any more.
        app: the ASGI application.
        limits: what the endpoint puts up with.
        shows_key: whether a request has a key of this endpoint.
    """

    def __init__(
        self,
        connection: BaseConnection,
        app: Callable[..., Awaitable[None]],
        *,
        limits: EndpointLimits,
        shows_key: Callable[[Head], bool],
    ) -> None:
        self.h2 = Frames(limits.head_bytes, limits.head_lines, MAX_STREAMS)
        self.connection = connection
        self.limits = limits
        self._app = app
        self._shows_key = shows_key
        self._wire = connection.wire
        self._outbox = connection.outbox
        self._streams: dict[int, Stream] = {}
        self._unsent = Condition()
        self._queue: OrderedDict[Stream, None] = OrderedDict()
        """Streams that wait for what all share."""
        self._kept = 0
        """Bytes that were written, since the beginning."""
        self._ends: deque[tuple[int, Stream]] = deque()
        """Streams whose end is not sent yet, and how many bytes there are up to it."""
        self._moved_at = trio.current_time()
        """When there was last more of that."""
        self._sent = trio.lowlevel.ParkingLot()
        self._keyless_until = trio.current_time() + limits.keyless_seconds
        self._head_until = inf
        self._leaves = False
        """Whether the client opens no more streams, and waits for the answers to those that are open."""
        self._says_eof = False
        self._over = trio.Event()

    async def run(self, data: bytes = b"") -> None:
        """Serve it, to its end; `data` has been read already.

        Cancellation: its streams are cancelled, the connection is broken off.
        """
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self.flush()
        async with trio.open_nursery() as self._nursery:
            async with trio.open_nursery() as io:
                io.start_soon(self._write, io.cancel_scope)
                try:
                    await self._read(data)
                except _Ended:
                    self._hang_up()
                    await self._see_out()
                io.cancel_scope.cancel()
            self._over.set()
            self._hang_up()

    def _hang_up(self) -> None:
        for stream in tuple(self._streams.values()):
            stream.hang_up()
        self._sent.unpark_all()

    # What comes

    async def _read(self, data: bytes) -> None:
        """Read until the client hangs up.

        Raises:
            _Ended: the connection has to end from here.
        """
        while True:
            start = 0
            while start < len(data):
                most = max(KEYLESS_PIECE if self.h2.keyless else PIECE, self.h2.wanted)
                piece = data[start : start + most]
                self._take(piece)
                start += len(piece)
                await trio.lowlevel.checkpoint()
            while self._outbox.size > 4 * MAX_OUT:
                await self._sent.park()
            try:
                data = await self._receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return

    async def _receive(self) -> bytes:
        if not self.h2.in_head:
            self._head_until = inf
        elif self._head_until == inf:
            self._head_until = trio.current_time() + self.limits.head_seconds
        data = b""
        with trio.CancelScope(deadline=min(self._head_until, self._keyless_until)) as scope:
            data = await self._receive_piece()
        if scope.cancelled_caught:
            late = "the head of a request took too long"
            raise self._end(
                Codes.ENHANCE_YOUR_CALM, late if self.h2.in_head else "no request has shown a key"
            )
        return data

    async def _receive_piece(self) -> bytes:
        if not self.h2.keyless:
            return await self._wire.receive(MAX_RECEIVE)
        return await self.connection.receive_in_turn(self.h2.begun, max(KEYLESS_PIECE, self.h2.wanted))

    def _take(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as exc:  # h2 has written the GOAWAY
            self.flush()
            said = shown(str(exc), 200)  # it quotes the client
            self.connection.note("http/2 ended", "http/2: a connection was ended: %s", said)
            raise _Ended from exc
        if self.h2.is_flooded():
            raise self._end(Codes.ENHANCE_YOUR_CALM, "a flood of frames that ask for nothing")
        for event in events:
            self._handle(event)
        self.flush()
        self._weigh()

    def _weigh(self) -> None:
        """Say what is held for it, which matters while it has shown no key."""
        if self.h2.keyless:
            bodies = sum([stream.waiting for stream in self._streams.values()])
            self.connection.hold(self.h2.begun + self._outbox.size + bodies)

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(number)):
                self._begin(number, event)
            case h2.events.DataReceived(stream_id=int(number), flow_controlled_length=length):
                stream = self._streams.get(number)
                if stream is None or stream.gone:
                    self.acknowledge(length, number)
                else:
                    stream.take(event.data, length)
            case h2.events.StreamEnded(stream_id=int(number)) if number in self._streams:
                self._streams[number].end_body()
            case h2.events.StreamReset(stream_id=int(number)) if number in self._streams:
                self._streams[number].hang_up()
            case h2.events.WindowUpdated(stream_id=0):
                self._share_more()
            case h2.events.WindowUpdated(stream_id=int(number)) if number in self._streams:
                self._maybe_let_on(self._streams[number])
            case h2.events.RemoteSettingsChanged(changed_settings=changed) if WINDOW_SIZE in changed:
                for stream in tuple(self._streams.values()):
                    self._maybe_let_on(stream)
            case h2.events.ConnectionTerminated(error_code=Codes.NO_ERROR) if self._streams:
                self._leaves = True
            case h2.events.ConnectionTerminated():
                raise _Ended

    def _begin(self, number: int, event: h2.events.RequestReceived) -> None:
        """A request: a stream of its own, and a task."""
        try:
            head = read_head(event.headers or [])
        except Malformed as exc:
            self.connection.note("http/2 reset", "http/2: a request was reset: %s", exc)
            self.reset(number, Codes.PROTOCOL_ERROR)
            return
        if self.h2.keyless and self._shows_key(head.text):
            self.h2.keyless, self._keyless_until = False, inf
            self.connection.admit()
        if len(self._streams) >= (most := KEYLESS_STREAMS if self.h2.keyless else MAX_STREAMS):
            self.connection.note(
                "http/2 streams", "http/2: over %d requests at once on a connection: one is refused", most
            )
            self.reset(number, Codes.REFUSED_STREAM)
            return
        stream = self._streams[number] = Stream(self, number, head)
        self.connection.idle = False
        self._nursery.start_soon(self._serve, stream)

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, stream: Stream) -> None:
        """The task of a stream."""
        try:
            if not stream.gone:
                await self._app(stream.scope, stream.receive, stream.send)
        except BaseException as exc:
            cancelled, error = split_cancelled(exc)
            if error is not None:
                log.exception("http/2: a request failed", exc_info=error)
            if cancelled is not None:
                raise cancelled from None
        finally:
            try:
                await stream.finish()
            finally:
                del self._streams[stream.number]
                self._maybe_end()

    def _maybe_end(self) -> None:
        self.connection.idle = not self._streams
        if self.connection.idle and (self.connection.ending or self._leaves) and not self._over.is_set():
            self.h2.close_connection()
            self.flush()
            self._nursery.start_soon(self._close)

    @trio.lowlevel.enable_ki_protection
    async def _close(self) -> None:
        """End an idle connection: it goes when the client does, or after a moment."""
        stream: Any = self.connection.stream
        with trio.move_on_after(CLOSE_WITHIN):
            await self._flushed()
            if isinstance(stream, trio.SocketStream) and not self._over.is_set():
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._send_eof()
                await self._over.wait()
        await self.connection.abort()

    async def _flushed(self) -> None:
        while self._outbox.full and not self._over.is_set():
            await self._sent.park()

    # What goes

    def flush(self) -> None:
        """Have sent what h2 has written."""
        data = self.h2.data_to_send()
        self._kept += len(data)
        self._outbox.keep(data)
        if self._outbox.full:
            self._unsent.notify_all()

    @trio.lowlevel.enable_ki_protection
    async def _write(self, scope: trio.CancelScope) -> None:
        """Send what is there, until the connection is over."""
        try:
            while True:
                if not self._outbox.full:
                    await self._unsent.wait()
                await self._outbox.flush()
                self._note_sent()
                self._sent.unpark_all()
                self._share_more()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()
        except trio.TooSlowError:
            self.connection.note(
                "http/2 socket", "http/2: not a byte was taken for %g s", self.limits.reader_seconds
            )
            scope.cancel()

    def await_sent(self, stream: Stream) -> None:
        """Tell a stream when all that was written so far is sent."""
        self._ends.append((self._kept, stream))

    def _note_sent(self) -> None:
        sent = self._kept - self._outbox.size
        while self._ends and self._ends[0][0] <= sent:
            self._ends.popleft()[1].note_sent()

    def room(self, number: int) -> int:
        """Bytes that a stream may send now; below 0 not even its end.

        SETTINGS may take more than is left of a window. A DATA frame without a byte would be allowed then (RFC 9113,
        6.9), but h2 takes it for a fault: 4.3 where it is sent, all of them where it comes.
        """
        window = self.h2.local_flow_control_window(number)
        return min(window, self.h2.max_outbound_frame_size, max(0, self._shared_room))

    @property
    def _shared_room(self) -> int:
        """Bytes that some stream may send now."""
        return min(self.h2.outbound_flow_control_window, MAX_OUT - self._outbox.size)

    async def wait_room(self, stream: Stream) -> bool:
        """Wait until there may be more room for a stream. False: there was none for too long."""
        begun = trio.current_time()
        if queues := self._shared_room <= 0:
            self._queue[stream] = None
        else:
            self.let_next_on()
        try:
            while (due := self._overdue_at(begun, queues=queues)) > trio.current_time():
                with trio.CancelScope(deadline=due):
                    await stream.room.wait()
                    return True
            return False
        finally:
            self._queue.pop(stream, None)

    def _overdue_at(self, begun: float, *, queues: bool) -> float:
        """Who stands in the queue is not overdue while it moves."""
        return (max(begun, self._moved_at) if queues else begun) + self.limits.reader_seconds

    def _maybe_let_on(self, stream: Stream) -> None:
        """Its window may be larger now. Who is in the queue waits for something else."""
        if stream not in self._queue and self.h2.window(stream.number) >= stream.needs:
            stream.let_on()

    def _share_more(self) -> None:
        if self._shared_room > 0:  # not by other traffic, an answered PING say, behind a shut window
            self._moved_at = trio.current_time()
        self.let_next_on()

    def let_next_on(self) -> None:
        """Let a stream go on that waits for what all share, if there is some of that. It does the same in its turn."""
        if self._queue and self._shared_room > 0:
            stream, _ = self._queue.popitem(last=False)
            stream.let_on()

    def acknowledge(self, length: int | None, number: int) -> None:
        """So many bytes of a body need no room any more."""
        if length:
            with suppress(h2.exceptions.ProtocolError):  # the connection has ended
                self.h2.acknowledge_received_data(length, number)
            self._weigh()

    def give_up(self, number: int) -> None:
        """End a stream whose client takes nothing."""
        self.connection.note(
            "http/2 window", "http/2: a window was shut for %g s", self.limits.reader_seconds
        )
        self.reset(number, Codes.CANCEL)

    def reset(self, number: int, code: int) -> None:
        """End a stream."""
        try:
            self.h2.reset_stream(number, code)
        except h2.exceptions.ProtocolError:  # it is closed
            return
        self.flush()

    # The end

    def _end(self, code: Codes, why: str) -> _Ended:
        self.connection.note(f"http/2 {why}", "http/2: a connection was ended: %s", why)
        self.h2.close_connection(code)
        self.flush()
        return _Ended()

    async def _see_out(self) -> None:
        """Give the client a moment to read why."""
        with trio.move_on_after(CLOSE_WITHIN):
            await self._flushed()
            try:
                await self._send_eof()
                while await self._wire.receive(MAX_RECEIVE):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.lowlevel.checkpoint()

    async def _send_eof(self) -> None:
        """Say that nothing follows: once, though a fault of the client may come as its idle connection is ended."""
        stream: Any = self.connection.stream
        if isinstance(stream, trio.SocketStream) and not self._says_eof:
            self._says_eof = True
            await stream.send_eof()
