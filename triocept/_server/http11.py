"""An HTTP/1.1 implementation without hypercorn: for model calls, and for requests without an API key.

Rules:

1. Only unambiguous requests are served here: model calls, and requests that need no Quart. The head of such a request
   must follow the strict grammar (RFC 9112) and have a Content-Length. When any other request arrives, this request and
   all later bytes of the connection are passed to hypercorn, which answers them. Examples are another route with a key,
   an upgrade, a chunked body, a folded header, a second Host.
2. After its first bytes, a connection has three tasks: a reader, a writer of answers, and the task that waits until
   both have ended. A request needs no further task. If a client disconnects before its head is complete, only one task
   was started. The reader notices when the client hangs up, whatever the other tasks do. The reader's cancel scope is
   also the timer of the connection, because a cancel scope for each wait would cost a call three times as much. The
   writer is a separate task, because waking a task is faster if only few stack frames are resumed.
3. The key and the declared size are checked before the body is read.
4. A response and its head are sent together.
5. If a request is answered before its body was read, the whole answer is sent first. Then the body is received and
   discarded for up to `LINGER` seconds, and the connection is closed. An immediate close would reset the connection,
   and the client would lose the answer.

The package httptools would parse a head no faster than the regular expression here, and accepts heads that h11 refuses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from itertools import repeat
from math import inf
from typing import TYPE_CHECKING, Any, final

import msgspec
import trio

from .._rollout.answer import ClientGone, Condition
from .._trace.raw import RawResponse
from .admission import Share
from .base_connection import KEYLESS_PIECE, MAX_RECEIVE, BaseConnection, http_date
from .intake import LINGER, Route
from .listen import BLANK_LINE
from .raw import end_raw, send_raw
from .transport import BodyTooLarge, Head, Reply

if TYPE_CHECKING:
    from .._util.bare_socket import BareSocket
    from .front import Front

_HEAD = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[!-~]*+) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e]*+\r\n)++)\r\n"
)
_LENGTH = re.compile(r"[0-9]{1,15}")
_LENGTH_LINE = re.compile(rb"\r\ncontent-length:[\t ]*([0-9]+)[\t ]*\r\n", re.IGNORECASE)
_COLON = repeat(":")
_HYPERCORNS = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer"})
_STARTS = (b"GET /", b"POST /", b"PUT /", b"PATCH /", b"DELETE /")
_WITHOUT_BODY = ("GET", "DELETE")
"""Methods that need no Content-Length."""
_MAX_HEAD = 64 * 1024
"""Maximum bytes of a head that this module parses. A longer head is passed to hypercorn, which has its own limit."""
_CONTROLS = 0x20
"""Highest code of a character with which a head cannot begin: h11 refuses such a head immediately."""
_LARGE_PIECE = 4096
"""Minimum bytes of a large piece of a body. Large pieces are joined with the other pieces only when the body is
complete."""
_LONG = 64 * 1024
"""Minimum bytes of a long piece. The part of a body in a long piece is not copied to the other received bytes."""
_READ_AHEAD = 256 * 1024
"""Maximum received bytes that no other task has taken yet.

These bytes belong to the body that is being read, or to later requests. Later requests are read while a request waits
for its answer, in order to notice when the client hangs up."""


@final
class HTTP11:
    """The HTTP/1.1 implementation for one connection.

    The object is also the `Transport` of the connection's model calls.
    """

    __slots__ = (
        "_chunked",
        "_closes",
        "_connection",
        "_ended",
        "_front",
        "_inbox",
        "_is_hypercorns",
        "_known",
        "_most_lines",
        "_outbox",
        "_stalls",
        "_start",
        "_unread",
    )

    def __init__(self, connection: BaseConnection, front: Front) -> None:
        self._connection = connection
        self._front = front
        self._inbox = Inbox(connection)
        self._outbox = connection.outbox
        self._most_lines = connection.limits.head_lines + 2  # including the request line and the blank line
        self._is_hypercorns = False
        """True if hypercorn must serve this connection from now on."""
        self._known: tuple[bytes, bytes, Head] | None = None
        """The last head: the bytes before and behind the number of its Content-Length, and the parsed head. An agent
        sends the same head again, with another number."""

    async def run(self) -> bool:
        """Serve requests until the connection ends, or until a request arrives that hypercorn must serve.

        Return True if hypercorn must serve the bytes in the connection's `ahead`. Return False if the connection has
        ended.
        """
        if not await self._inbox.begin():
            return False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._inbox.read)
            nursery.start_soon(self._serve, nursery.cancel_scope)
        self._inbox.join()  # the reader may have received a long piece after `_serve` had ended
        return self._is_hypercorns

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, scope: trio.CancelScope) -> None:
        """Answer the connection's requests one after the other.

        If an answer could not be sent completely, close the connection.
        """
        connection, inbox, expected = self._connection, self._inbox, 0
        while True:
            if not inbox.data:
                inbox.join()
            connection.idle = not inbox.data
            if connection.keyless:
                connection.hold(inbox.size)
            inbox.expected = expected
            size = await inbox.find_head()
            inbox.expected = 0
            if size < 0:
                break
            connection.idle = False
            head = self._read(inbox.data, size) if size else None
            answer: Route | Reply | None = None
            if head is not None:
                answer = self._front.routes.match(head.path, head.query)
                if answer is None or connection.keyless:
                    answer = await self._begin(head, answer)
            if head is None or answer is None:
                inbox.join()
                self._is_hypercorns = bool(inbox.data)
                break
            del inbox.data[:size]
            expected = size if self._unread >= _LONG else 0
            try:
                if isinstance(answer, Reply):
                    self.respond(answer)
                    await self.flush()
                else:
                    await self._front.intake(answer, head, self)
                if self._ended and self._unread:
                    with trio.move_on_after(LINGER):
                        while self._unread and not inbox.gone:
                            self._unread -= len(inbox.take(self._unread))
                            if self._unread:
                                await inbox.arrival()
                if self._stalls:
                    # Wait until the client hangs up, or the server stops and closes this idle connection.
                    connection.idle = True
                    while not inbox.gone:
                        inbox.take(inbox.size)
                        await inbox.arrival()
            except ClientGone:  # the client disconnected while an error was sent
                pass
            finally:
                inbox.on_gone, inbox.due, inbox.at_due = None, inf, None
                if not self._ended:
                    await connection.abort()
            if not self._ended or self._closes or inbox.gone:
                break
        scope.cancel()

    async def _begin(self, head: Head, route: Route | None) -> Route | Reply | None:
        """Return the route of a model call, or the response to any other request.

        Return None if hypercorn must serve the request.

        The method is a checkpoint only if the request has no key and must wait in the queue.
        """
        holder = self._front.holder_of_key(head)
        await self._connection.begin_request(holder)
        return route if route is not None else self._front.in_front(head, keyed=holder is not None)

    def _read(self, data: bytearray, size: int) -> Head | None:
        """Parse the request head in the first `size` bytes of `data`. Return None if the head is ambiguous."""
        if self._known is not None:
            before, behind, head = self._known
            start, end = len(before), size - len(behind)
            if start < end and data.startswith(before) and data.startswith(behind, end):
                length = data[start:end].decode("latin-1")
                if _LENGTH.fullmatch(length):
                    self._begin_reply(int(length), closes=False)
                    return msgspec.structs.replace(head, headers={**head.headers, "content-length": length})
        match = _HEAD.fullmatch(data, 0, size) if data.count(b"\n", 0, size) <= self._most_lines else None
        if match is None:
            return None
        method = match[1].decode()
        path, _, query = match[2].decode().partition("?")
        lines = match[3].decode().split("\r\n")
        headers: dict[str, str] = {}
        for name, _, value in map(str.partition, lines[:-1], _COLON):
            headers[name.lower()] = value.strip()  # spaces and tabs: the grammar allows no other white space
        length = headers.get("content-length", "0" if method in _WITHOUT_BODY else "")
        closes = headers.get("connection", "").lower()
        if (
            "%" in path
            or len(headers) != len(lines) - 1
            or "host" not in headers
            or not _LENGTH.fullmatch(length)
            or closes not in ("", "keep-alive", "close")
            or not _HYPERCORNS.isdisjoint(headers)
        ):
            return None
        head = Head(method, path, query, headers)
        self._begin_reply(int(length), closes=closes == "close")
        if not self._closes and (found := _LENGTH_LINE.search(data, 0, size)):
            self._known = bytes(data[: found.start(1)]), bytes(data[found.end(1) : size]), head
        return head

    def _begin_reply(self, unread: int, *, closes: bool) -> None:
        self._unread = unread
        self._closes = closes
        self._start: tuple[int, Mapping[str, str]] | None = None
        """The head of the response, which is sent together with the first piece of the body."""
        self._chunked = False
        self._ended = False
        """True if the end of the response was written."""
        self._stalls = False
        """True if the response stalls: no further byte is sent, but the connection stays open."""

    async def receive_body(self, cap: int, share: Share) -> bytes:
        self._connection.admit(share.rollout)
        if self._unread > cap:
            raise BodyTooLarge
        piece = self._inbox.take(self._unread)
        self._unread -= len(piece)
        if not self._unread:
            return piece  # the usual case: no wait
        pieces: list[bytes | bytearray] = [piece] if piece else []  # a single piece is not copied
        share.add(len(piece))
        while self._unread:
            if self._inbox.gone and not self._inbox.size:
                raise ClientGone
            await share.next(self._inbox.arrival, self._connection)
            piece = self._inbox.take(self._unread)
            self._unread -= len(piece)
            share.add(len(piece))
            if len(piece) >= _LARGE_PIECE:
                pieces.append(piece)
            elif pieces and isinstance(small := pieces[-1], bytearray):
                small += piece  # add no further object: it would take 34 bytes for a piece of one byte
            else:
                pieces.append(bytearray(piece))
        return b"".join(pieces)

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._inbox.on_gone = callback
        if self._inbox.gone:
            callback()

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self._start = status, headers

    def write(self, data: bytes, *, last: bool = False) -> bool:
        head = b""
        if self._start is not None:
            (status, headers), self._start = self._start, None
            self._chunked = not last
            self._closes = self._closes or bool(self._unread) or self._connection.ending
            fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
            framing = "transfer-encoding: chunked" if self._chunked else f"content-length: {len(data)}"
            end = "\r\nconnection: close" if self._closes else ""
            date = http_date(int(time.time()))
            head = f"HTTP/1.1 {status} \r\n{fields}{framing}{end}\r\ndate: {date}\r\n\r\n".encode(
                "latin-1", "replace"
            )
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if last:  # from here on a hang-up is ignored
            self._ended = True
            self._inbox.on_gone = None
            if self._chunked:
                data += b"0\r\n\r\n"
        return self._outbox.write(head + data)

    def respond(self, reply: Reply) -> bool:
        self._start = reply.status, reply.headers
        return self.write(reply.body, last=True)

    @property
    def full(self) -> bool:
        return self._outbox.full

    def wait(self, news: Condition, until: float) -> Coroutine[Any, Any, None]:
        inbox = self._inbox
        inbox.due, inbox.at_due = until, news.notify_all
        # A later deadline is not set: to wake early and wait again is cheaper.
        if until < inbox.timer.deadline:
            inbox.timer.deadline = until
        return news.wait()  # not awaited here: that would add a frame to each wake-up

    async def flush(self) -> None:
        if self._outbox.full:
            await self._send(self._outbox.flush())

    def check_raw(self, raw: RawResponse) -> None:
        """Do nothing: every raw response is possible over HTTP/1.1."""

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        await self._send(send_raw(self._connection, raw, begins=begins, ends=ends))
        if not ends:
            return
        self._inbox.on_gone = None
        self._stalls = raw.end == "stall"
        if not self._stalls:
            await end_raw(self._connection, raw.end)

    async def _send(self, sending: Awaitable[None]) -> None:
        self._connection.hold(self._inbox.size)
        try:
            await sending
        except trio.Cancelled:
            await self._break_off()
            raise
        except trio.TooSlowError as exc:
            self._connection.note_slow_reader()
            await self._break_off()
            raise ClientGone from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            await self._break_off()
            raise ClientGone from exc

    async def abort(self) -> None:
        await self._connection.abort()

    async def _break_off(self) -> None:
        self._ended = False
        await self._connection.abort()


@final
class Inbox:
    """Reads the bytes of a connection.

    The reader stores received bytes until a task takes them, and notices when the client disconnects.
    """

    __slots__ = (
        "_arrival",
        "_capacity",
        "_connection",
        "_max_head",
        "at_due",
        "data",
        "due",
        "expected",
        "gone",
        "long",
        "on_gone",
        "timer",
    )

    def __init__(self, connection: BaseConnection) -> None:
        self.data = connection.ahead
        self.long = b""
        """Received bytes that come after the bytes in `data`: a long piece of a body, which is not copied to `data`."""
        self.expected = 0
        """Length of the head that is expected next, if a long body is expected behind it; otherwise 0."""
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        """Function to call when the client hangs up. If None, no function is called."""
        self.due = inf
        self.at_due: Callable[[], None] | None = None
        """Function that the reader calls once, at the time `due` of trio's clock."""
        self.timer = trio.CancelScope()
        """Cancel scope of the reader's wait. Code that sets an earlier `due` must also set the scope's deadline."""
        self._connection = connection
        self._max_head = min(_MAX_HEAD, connection.limits.head_bytes)
        self._arrival = Condition()
        self._capacity = Condition()

    async def begin(self) -> bool:
        """Receive the first bytes. Return False if the client disconnects before its head is complete."""
        try:
            self.data += await self._connection.receive(0)
            bare = self._connection.wire.socket
            if bare is not None and len(self.data) < KEYLESS_PIECE and not BLANK_LINE.search(self.data):
                piece = bare.take(KEYLESS_PIECE)  # often the end of the head, which was incomplete
                self.gone = piece == b""
                self.data += piece or b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gone = True
        return bool(self.data) and not self.gone

    @trio.lowlevel.enable_ki_protection
    async def read(self) -> None:
        """Receive bytes until the client disconnects. Cancellation: no bytes are lost."""
        connection = self._connection
        has_arrived: bool | None
        # First, `_serve` looks for a key in the first bytes: an authenticated connection is read without waiting.
        await trio.lowlevel.checkpoint()
        try:
            while not self.gone:
                with trio.CancelScope(deadline=self.due) as self.timer:
                    while not self.gone:
                        while self.size > _READ_AHEAD:
                            await self._capacity.wait()
                        if (bare := connection.wire.socket) is None or connection.keyless:
                            has_arrived = self._add(await connection.receive(len(self.data)))
                        else:
                            await bare.wait()
                            has_arrived = self._take_from(bare)
                        if has_arrived:
                            self._arrival.notify_all()
                        elif has_arrived is not None:
                            self.hang_up()
                if self.at_due is not None and self.due <= trio.current_time():
                    self.at_due()
                    self.due, self.at_due = inf, None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.hang_up()

    def _take_from(self, bare: BareSocket) -> bool | None:
        """Add the bytes that have arrived. Return False if the client has disconnected, None if no byte has arrived.

        First read at most `expected` bytes, the expected size of a head. If that many bytes have arrived, read the body
        as a separate piece, so that the body is not copied.
        """
        expected = 0 if self.size else self.expected
        piece = bare.take(expected or MAX_RECEIVE)
        if piece is None:
            return None
        if self._add(piece) and len(piece) == expected:
            self._add(bare.take(MAX_RECEIVE) or b"")
        return bool(piece)

    def _add(self, piece: bytes) -> bool:
        """Add a received piece. Return False if the piece is empty.

        If the piece is long, only a request head at its beginning is added to `data`. The bytes after the head, which
        belong to the body, are stored in `long`.
        """
        data = self.data
        if len(piece) < _LONG or self.long:
            self.join()
            data += piece
        elif data:  # stored separately only if `data` is one whole head: `find_head` then reads no further
            if data.endswith(b"\r\n\r\n") and data.find(b"\r\n\r\n") == len(data) - 4:
                self.long = piece
            else:
                data += piece
        else:
            end = piece.find(b"\r\n\r\n", 0, self._max_head) if piece.startswith(b"POST ") else -1
            if end >= 0:
                data += piece[: end + 4]
                piece = piece[end + 4 :]
            self.long = piece
        return bool(piece)

    def join(self) -> None:
        if self.long:
            self.data += self.long
            self.long = b""

    @property
    def size(self) -> int:
        return len(self.data) + len(self.long)

    def hang_up(self) -> None:
        self.gone = True
        self._arrival.notify_all()
        if self.on_gone is not None:
            self.on_gone()

    async def arrival(self) -> None:
        while not (self.size or self.gone):
            self._capacity.notify_all()
            await self._arrival.wait()

    async def find_head(self) -> int:
        """Wait until the next request head is complete. Return its size, including the blank line.

        Return 0 if hypercorn must read the head. Return -1 if the client has disconnected before its head was complete;
        such a client gets no answer.
        """
        data, size, begun, connection = self.data, 0, False, self._connection
        lines = counted = 0
        while True:
            while len(data) == size and not self.gone:
                self._capacity.notify_all()
                await self._arrival.wait()
                if not data:
                    self.join()  # the piece contains no complete head
            seen = max(0, size - 3)
            end = data.find(b"\r\n\r\n", seen)
            if not begun and 0 <= end <= self._max_head and data.startswith(_STARTS):
                return end + 4  # the usual case; the strict grammar rejects a blank line before this one
            ours = data.startswith(_STARTS) or any(start.startswith(data) for start in _STARTS)
            ours = ours and (end if end >= 0 else len(data)) <= self._max_head
            blank = BLANK_LINE.search(data, max(0, seen - 2), end + 3 if end >= 0 else len(data))
            if blank is not None and blank.start() != end + 1:
                return 0
            if not ours or end < 0:
                limits = connection.limits
                lines, counted = lines + data.count(b"\n", counted), len(data)
                if lines > limits.head_lines:
                    return 0
                # hypercorn will answer this request. If its head is incomplete, wait for the rest here, which takes a
                # tenth of hypercorn's time. This is done only if the client has sent no key, and hypercorn would refuse
                # neither the length nor the first byte of the head.
                most = min(limits.head_bytes, _READ_AHEAD)
                if not ours and (
                    blank is not None or not connection.keyless or len(data) > most or data[0] <= _CONTROLS
                ):
                    return 0
            if end >= 0:
                if begun:
                    connection.end_head()
                return end + 4
            if self.gone:
                return -1
            size, begun = len(data), True  # the number may be less than what the next search covers
            connection.begin_head()
            connection.hold(size)

    def take(self, most: int) -> bytes:
        """Remove at most `most` bytes from the received bytes, and return them."""
        if not self.data and most >= len(self.long):  # the usual case of a long body: no copy
            taken, self.long = self.long, b""
            return taken
        self.join()
        if most >= len(self.data):
            taken = bytes(self.data)
            self.data.clear()
            return taken
        with memoryview(self.data) as view:
            taken = bytes(view[:most])
        del self.data[:most]
        return taken
