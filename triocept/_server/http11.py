"""Model calls over HTTP/1.1 without hypercorn, and requests without a key: HTTP/1.1's own way.

Rules:

1. Only what is beyond doubt is served here: a request with a head of strict grammar (RFC 9112) and a Content-Length,
   which is a model call, or is answered without Quart. Anything else (another route with a key, an upgrade, chunks, a
   fold, a second Host) goes to hypercorn as it came, byte for byte, and so does the rest of its connection: what is
   answered there is answered as if this module were not there.
2. A connection has three tasks for as long as it lives, and none for a request: one reads, one answers, and one waits
   for the end of both. The one that reads sees the hang-up, whatever the others do, and is the connection's timer: it
   waits for a deadline anyway, and a scope for each wait would cost a call three times as much. The one that answers
   is woken through the frames of its own calls, and not through all that the connection has been opened by.
3. The key is checked, and the declared size, before the body is read.
4. A response and its head go out in one send.
5. A request that is answered before its body was read is answered whole, then its body is thrown away for a while,
   then the connection ends: closing at once would reset it, and the answer would be lost on its way.

httptools would parse a head no faster than one regular expression, and would accept what h11 does not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, final

import trio

from .._rollout.answer import ClientGone, Condition
from .._trace.raw import RawResponse
from .admission import Share
from .base_connection import BaseConnection, http_date
from .intake import LINGER, Route
from .raw import end_raw, send_raw
from .transport import BodyTooLarge, Head, Reply

if TYPE_CHECKING:
    from .front import Front

_HEAD = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[!-~]*+) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e]*+\r\n)++)\r\n"
)
_LENGTH = re.compile(r"[0-9]{1,15}")
_HYPERCORNS = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer"})
_STARTS = (b"GET /", b"POST /", b"PUT /", b"PATCH /", b"DELETE /")
_WITHOUT_BODY = ("GET", "DELETE")
"""Methods that need no Content-Length."""
_BLANK_LINE = re.compile(rb"\n\r?\n")
_MAX_HEAD = 64 * 1024
"""Bytes; a longer head is hypercorn's, which has a cap of its own."""
_CONTROLS = 0x20
"""What is not above it begins no head: h11 refuses it at once."""
_READ_AHEAD = 256 * 1024
"""Bytes that may be read and not taken: the body of the request that is being read, or requests behind one that
waits, which are read for the sake of the hang-up."""


@final
class HTTP11:
    """The own way of one connection; to `intake` it is the `Transport` of each of its calls.

    Args:
        connection: what it is spoken on; it has not been read from.
        front: answers the requests.
    """

    __slots__ = (
        "_chunked",
        "_closes",
        "_connection",
        "_ended",
        "_front",
        "_inbox",
        "_is_hypercorns",
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
        self._most_lines = connection.limits.head_lines + 2  # with the first line, and the blank one
        self._is_hypercorns = False
        """Whether something was found that is hypercorn's."""

    async def run(self) -> bool:
        """Serve model calls. Whether what is in the connection's `ahead` then is hypercorn's; else it has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._inbox.read)
            nursery.start_soon(self._serve, nursery.cancel_scope)
        return self._is_hypercorns

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, scope: trio.CancelScope) -> None:
        """Answer one call after the other; one that is not answered to its end takes the connection along."""
        connection, inbox = self._connection, self._inbox
        while True:
            connection.idle = not inbox.data
            if connection.keyless:
                connection.hold(len(inbox.data))
            size = await inbox.find_head()
            connection.idle = False
            head = self._read(inbox.data, size) if size else None
            answer = await self._begin(head) if head is not None else None
            if head is None or answer is None:
                self._is_hypercorns = bool(inbox.data)
                break
            del inbox.data[:size]
            try:
                if isinstance(answer, Reply):
                    self.respond(answer)
                    await self.flush()
                else:
                    await self._front.intake(answer, head, self)
                if self._ended and self._unread:
                    await self._linger()
                if self._stalls:
                    await self._stall()
            except ClientGone:  # while it was told of an error
                pass
            finally:
                inbox.on_gone, inbox.due, inbox.at_due = None, inf, None
                if not self._ended:
                    await connection.abort()
            if not self._ended or self._closes or inbox.gone:
                break
        scope.cancel()

    async def _begin(self, head: Head) -> Route | Reply | None:
        """Return the route of a model call, or the reply to another request. None: the request is hypercorn's.

        A checkpoint only where a request without a key waits for its turn.
        """
        front, route = self._front, self._front.routes.match(head.path, head.query)
        if route is not None and not self._connection.keyless:  # as most
            return route
        rollout = front.rollout_of_key(head)
        await self._connection.begin_request(rollout)
        return route if route is not None else front.replies.in_front(head, keyed=rollout is not None)

    def _read(self, data: bytearray, size: int) -> Head | None:
        """Return the head that has so many bytes; None: it is not beyond doubt."""
        match = _HEAD.fullmatch(data, 0, size) if data.count(b"\n", 0, size) <= self._most_lines else None
        if match is None:
            return None
        method = match[1].decode()
        path, _, query = match[2].decode().partition("?")
        lines = match[3].decode().split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[:-1]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()  # of spaces and tabs: the grammar lets nothing else pass
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
        self._unread = int(length)
        self._closes = closes == "close"
        self._start: tuple[int, Mapping[str, str]] | None = None
        """The head of the response, which waits for the first piece of the body."""
        self._chunked = False
        self._ended = False
        """Whether the end of the response was written."""
        self._stalls = False
        """Whether nothing more is to be said, though it has not."""
        return Head(method, path, query, headers)

    async def receive_body(self, cap: int, share: Share) -> bytes:
        self._connection.admit(share.rollout)
        if self._unread > cap:
            raise BodyTooLarge
        piece = self._inbox.take(self._unread)
        self._unread -= len(piece)
        if not self._unread:
            return piece  # as most: it does not wait
        body = bytearray(piece)
        share.add(len(piece))
        while self._unread:
            if self._inbox.gone and not self._inbox.data:
                raise ClientGone
            await share.next(self._inbox.arrival)
            body += (piece := self._inbox.take(self._unread))
            self._unread -= len(piece)
            share.add(len(piece))
        return bytes(body)

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
            lines = [f"HTTP/1.1 {status} \r\n"]
            lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
            lines.append(
                "transfer-encoding: chunked\r\n" if self._chunked else f"content-length: {len(data)}\r\n"
            )
            if self._closes:
                lines.append("connection: close\r\n")
            lines.append(f"date: {http_date(int(time.time()))}\r\n\r\n")
            head = "".join(lines).encode("latin-1", "replace")
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if last:  # from here on a hang-up means nothing
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
        if until < inbox.timer.deadline:  # else it wakes too early, and waits again: that is cheaper
            inbox.timer.deadline = until
        return news.wait()  # and not awaited here: what wakes the task would go through this, too

    async def flush(self) -> None:
        if self._outbox.full:
            await self._send(self._outbox.flush())

    def check_raw(self, raw: RawResponse) -> None:
        """There are bytes for everything."""

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        await self._send(send_raw(self._connection, raw, begins=begins, ends=ends))
        if not ends:
            return
        self._inbox.on_gone = None
        self._stalls = raw.end == "stall"
        if not self._stalls:
            await end_raw(self._connection, raw.end)

    async def _send(self, sending: Awaitable[None]) -> None:
        self._connection.hold(len(self._inbox.data))
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

    async def _stall(self) -> None:
        """Say nothing until the client hangs up, or the server ends, for which nothing is worth a wait here."""
        self._connection.idle = True
        while not self._inbox.gone:
            await self._inbox.arrival()

    async def _linger(self) -> None:
        with trio.move_on_after(LINGER):
            while self._unread and not self._inbox.gone:
                self._unread -= len(self._inbox.take(self._unread))
                if self._unread:
                    await self._inbox.arrival()


def _begins_ours(data: bytearray) -> bool:
    """Return True if this beginning of a head may be that of a request that is served here."""
    return data.startswith(_STARTS) or any(start.startswith(data) for start in _STARTS)


@final
class Inbox:
    """What the client has sent and nobody has taken, and whether it is still there."""

    __slots__ = (
        "_arrival",
        "_connection",
        "_max_head",
        "_room",
        "at_due",
        "data",
        "due",
        "gone",
        "on_gone",
        "timer",
    )

    def __init__(self, connection: BaseConnection) -> None:
        self.data = connection.ahead
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        """Called when the client hangs up. None: nobody wants to know."""
        self.due = inf
        self.at_due: Callable[[], None] | None = None
        """Called at that time, by trio's clock, once."""
        self.timer = trio.CancelScope()
        """Who sets `due` to an earlier time than its deadline sets that, too."""
        self._connection = connection
        self._max_head = min(_MAX_HEAD, connection.limits.head_bytes)
        self._arrival = Condition()
        self._room = Condition()

    @trio.lowlevel.enable_ki_protection
    async def read(self) -> None:
        """Read until the client hangs up. Cancellation: nothing is lost."""
        connection = self._connection
        try:
            while not self.gone:
                with trio.CancelScope(deadline=self.due) as self.timer:
                    while not self.gone:
                        while len(self.data) > _READ_AHEAD:
                            await self._room.wait()
                        piece = await connection.receive(len(self.data))
                        self.data += piece
                        if piece:
                            del piece  # nothing holds it while the next is awaited
                            self._arrival.notify_all()
                        else:
                            self.hang_up()
                if self.at_due is not None and self.due <= trio.current_time():
                    self.at_due()
                    self.due, self.at_due = inf, None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.hang_up()

    def hang_up(self) -> None:
        """The client is gone."""
        self.gone = True
        self._arrival.notify_all()
        if self.on_gone is not None:
            self.on_gone()

    async def arrival(self) -> None:
        """Until more has come, or the client is gone."""
        self._room.notify_all()
        await self._arrival.wait()

    async def find_head(self) -> int:
        """How many bytes there are up to a blank line, with it; 0 where there is none, or none that could be ours."""
        data, size, begun = self.data, 0, False
        lines = counted = 0
        while True:
            while len(data) == size and not self.gone:
                self._room.notify_all()
                await self._arrival.wait()
            seen = max(0, size - 3)
            end = data.find(b"\r\n\r\n", seen)
            ours = _begins_ours(data) and (end if end >= 0 else len(data)) <= self._max_head
            blank = _BLANK_LINE.search(data, max(0, seen - 2), end + 3 if end >= 0 else len(data))
            if blank is not None and blank.start() != end + 1:
                return 0
            if not ours or end < 0:
                lines, counted = lines + data.count(b"\n", counted), len(data)
                if lines > self._connection.limits.head_lines:
                    return 0
                if not ours and (blank is not None or not self._may_wait()):
                    return 0
            if end >= 0:
                if begun:
                    self._connection.end_head()
                return end + 4
            if self.gone:
                return 0
            size, begun = len(data), True  # though it may be less than is looked at again
            self._connection.begin_head()
            self._connection.hold(size)

    def _may_wait(self) -> bool:
        """Whether the head of a stranger, though hypercorn's, may wait here for its end, where that costs a tenth: it
        is no longer than hypercorn allows, which would not refuse it for its beginning either."""
        data, limits = self.data, self._connection.limits
        return (
            self._connection.keyless
            and len(data) <= min(limits.head_bytes, _READ_AHEAD)
            and data[0] > _CONTROLS
        )

    def take(self, most: int) -> bytes:
        """As much as there is, of so many bytes."""
        if most >= len(self.data):
            taken = bytes(self.data)
            self.data.clear()
            return taken
        with memoryview(self.data) as view:
            taken = bytes(view[:most])
        del self.data[:most]
        return taken
