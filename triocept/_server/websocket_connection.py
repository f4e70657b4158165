"""A websocket (RFC 6455) on one connection: its handshake, its messages and its end.

The module `websocket` handles the content of the messages. wsproto reads and writes the frames. hypercorn's own
websockets are not used. The reasons: they accept compression, and treat a frame that directly follows the handshake as
an error. hypercorn's websockets also limit queued messages by their number, not by their bytes, and wait for a slow
client without a time limit.

Rules:

1. No extension is accepted. (In a test with `permessage-deflate`, 24 KB from a client became 2.2 GB in memory.) Codex
   and OpenAI's SDKs also work without this extension.
2. The size of a message is counted in bytes, as they arrive. A message over the limit is discarded, and `receive`
   reports this. A message over twice the limit ends the connection with the close code 1009.
3. Invalid bytes end the connection with the close code of RFC 6455, 7.4.1, and are logged in one line. Examples are a
   frame without its mask, a reserved bit, and text that is not UTF-8.
4. A client that reads no byte for `reader_seconds` counts as disconnected.
5. If a frame cannot be sent whole, the connection is broken off.
6. If several pings arrive, only the last must be answered (RFC 6455, 5.5.3). So pings are not queued.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, final

import msgspec
import trio
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, generate_accept_token

from .._rollout.answer import ClientGone
from .._trace.raw import RawEnd
from ..errors import Refusal
from .admission import Share
from .base_connection import MAX_RECEIVE, BaseConnection, acquire
from .notices import shown
from .raw import end_raw
from .transport import Head, Reply

if TYPE_CHECKING:
    from .._rollout.rollout_state import RolloutState

CLOSE_WITHIN = 2.0
"""Maximum seconds for sending a close frame, and for waiting for the client's close frame.

If the server did not wait for the client's close frame, a reset might overtake the server's close frame (RFC 6455,
7.1.1).
"""
EVENTS_AT_ONCE = 256
"""Maximum events that are handled between two schedule points. 128 KiB can contain 20,000 empty frames."""
TOO_BIG = 1009


class Kind(Enum):
    """The kind of a received message."""

    TEXT = "text"
    BINARY = "binary"
    TOO_LARGE = "too large"
    """The message exceeded the limit. No byte of the message was kept."""
    CROWDED = "crowded"
    """Too many received bytes were waiting to be parsed. No byte of the message was kept."""


class Received(msgspec.Struct, frozen=True, gc=False):
    kind: Kind
    data: bytes = b""


def wants_websocket(method: str, headers: Mapping[str, str]) -> bool:
    """Return True if a request is an upgrade to a websocket. The names in `headers` must be in lower case.

    The method may be in lower case, because hypercorn accepts methods in lower case.
    """
    tokens = [token.strip() for token in headers.get("connection", "").lower().split(",")]
    return (
        method.upper() == "GET" and headers.get("upgrade", "").lower() == "websocket" and "upgrade" in tokens
    )


@final
class WebSocket:
    """A websocket on a connection. Only one task may receive. Any number of tasks may send.

    `rest` contains the bytes after the upgrade request. Messages of more than `max_message` bytes are discarded.
    """

    def __init__(self, connection: BaseConnection, head: Head, rest: bytes, *, max_message: int) -> None:
        self._connection = connection
        self._head = head
        self._wire = connection.wire
        self._frames = Frames(ConnectionType.SERVER, trailing_data=rest)
        self._events: Iterator[Event] = self._frames.events()
        self._max_message = max_message
        self._message = bytearray()
        self._length = 0
        self._crowded = False
        """True if a piece of the current message was refused because too many bytes were waiting."""
        self._sending = trio.Lock()
        self._pong: Ping | None = None

    # The handshake

    @property
    def fault(self) -> str | None:
        """Description of the error in the client's handshake. None if the handshake is valid."""
        headers = self._head.headers
        if "content-length" in headers or "transfer-encoding" in headers:
            return "a request for a websocket must not have a body"
        if headers.get("sec-websocket-version") != "13":
            return "the header Sec-WebSocket-Version must be 13"
        if not headers.get("sec-websocket-key"):
            return "a request for a websocket must have the header Sec-WebSocket-Key"
        return None

    async def begin_request(self, rollout: RolloutState | None) -> None:
        await self._connection.begin_request(rollout)

    async def refuse(self, reply: Reply) -> None:
        """Refuse the handshake with an HTTP response, and end the connection."""
        head = [f"HTTP/1.1 {reply.status} \r\n"]
        head += [f"{name}: {value}\r\n" for name, value in reply.headers.items()]
        head.append(f"content-length: {len(reply.body)}\r\nconnection: close\r\n")
        head.append(f"date: {self._connection.date()}\r\n\r\n")
        await self._transmit("".join(head).encode("latin-1", "replace") + reply.body)
        await self._linger()

    async def accept(self) -> None:
        """Accept the client's handshake.

        Raises:
            ClientGone: the client has hung up.
        """
        token = generate_accept_token(self._head.headers["sec-websocket-key"].encode("latin-1"))
        head = b"HTTP/1.1 101 \r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        await self._transmit(head + b"sec-websocket-accept: %b\r\n\r\n" % token)

    # Messages

    async def receive(self, share: Share) -> Received | None:
        """Return the next message, or None if the client has disconnected or has sent invalid bytes.

        `share` counts the bytes of an incomplete message. Cancellation: no received bytes are lost.
        """
        while True:
            for count, event in enumerate(self._events, 1):
                if isinstance(event, Message):
                    if (received := self._gather(event, share)) is not None:
                        return received
                    if self._length > 2 * self._max_message:
                        await self._fail(TOO_BIG, f"the message is larger than {self._max_message} bytes")
                        return None
                elif isinstance(event, Ping):
                    self._pong = event
                    if not self._sending.locked():
                        await self._send_quietly(None)
                elif isinstance(event, CloseConnection):
                    # wsproto reports the client's close, and a fault in its frames, by the same event.
                    if self._frames.state is ConnectionState.REMOTE_CLOSING:
                        await self._send_quietly(event.response())
                    elif self._frames.state is ConnectionState.OPEN:
                        await self._fail(int(event.code), event.reason or "")
                    return None
                if count % EVENTS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            try:
                data = await self._wire.receive(MAX_RECEIVE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            self._frames.receive_data(data)
            self._events = self._frames.events()

    def _gather(self, event: Message[Any], share: Share) -> Received | None:
        """Add `event`, one piece of a message, to the current message.

        Return the message when it is complete; otherwise None.
        """
        data = event.data.encode() if isinstance(event.data, str) else event.data
        self._length += len(data)
        if not event.message_finished:
            try:
                share.add(len(data))
            except Refusal:
                self._crowded = True
        if self._length > self._max_message or self._crowded:
            self._message.clear()
            share.release()
        else:
            self._message += data
        if not event.message_finished:
            return None
        share.release()
        if self._length > self._max_message:
            kind = Kind.TOO_LARGE
        elif self._crowded:
            kind = Kind.CROWDED
        else:
            kind = Kind.TEXT if isinstance(event, TextMessage) else Kind.BINARY
        received = Received(kind, bytes(self._message) if kind is Kind.TEXT else b"")
        self._message, self._length, self._crowded = bytearray(), 0, False
        return received

    async def send(self, text: str) -> None:
        """Send a text message.

        Raises:
            ClientGone: the client has hung up, or the websocket was closed.

        Cancellation: breaks the connection off.
        """
        await self._send(TextMessage(data=text))

    async def _send(self, event: Event | None) -> None:
        await acquire(self._sending)
        try:
            await self._transmit(b"" if event is None else self._frames.send(event))
            while self._pong is not None and self._frames.state is ConnectionState.OPEN:
                ping, self._pong = self._pong, None
                await self._transmit(self._frames.send(ping.response()))
        except LocalProtocolError as exc:
            raise ClientGone from exc
        finally:
            self._sending.release()

    async def _transmit(self, data: bytes) -> None:
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._connection.outbox.write(data)
            await self._connection.outbox.flush()
        except trio.Cancelled:
            await self._connection.abort()
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ClientGone from exc
        except trio.TooSlowError as exc:
            path, seconds = shown(self._head.path), self._connection.limits.reader_seconds
            text = "websocket %s: the connection is closed, because its client has read no byte for %g s"
            said = (text, path, seconds)
            self._connection.note("websocket reader", *said)
            await self._connection.abort()
            raise ClientGone from exc

    # The end

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame, then wait a moment so that the client can read the close frame."""
        with trio.move_on_after(CLOSE_WITHIN):
            await self._send_quietly(CloseConnection(code, reason))
            await self._linger()

    async def end_raw(self, end: RawEnd) -> None:
        """End the connection without a close frame."""
        await end_raw(self._connection, end)

    async def _fail(self, code: int, reason: str) -> None:
        said = (
            "websocket %s: the endpoint closed the connection with the code %d: %s",
            shown(self._head.path),
            code,
            reason,
        )
        self._connection.note(f"websocket {code}", *said)
        await self.close(code, reason)

    async def _send_quietly(self, event: Event | None) -> None:
        try:
            await self._send(event)
        except ClientGone:
            await trio.lowlevel.checkpoint()

    async def _linger(self) -> None:
        stream: Any = self._connection.stream
        with trio.move_on_after(CLOSE_WITHIN):
            try:
                if isinstance(stream, trio.SocketStream):
                    await stream.send_eof()
                while await self._connection.receive(0):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.lowlevel.checkpoint()
