"""A connection in memory: what a server writes is with its client at once, and nothing is ever full."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import final

import msgspec
import trio

from ..._rollout.answer import ClientGone, Condition
from ..._server.admission import Share
from ..._server.transport import BodyTooLarge, Reply, Transport
from ..._trace.raw import RawResponse


class Piece(msgspec.Struct, frozen=True):
    """Bytes of an answer's body that came together."""

    at: float
    """Seconds, by trio's clock, after the call was made."""
    data: bytes


@final
class MemoryTransport(Transport):
    """Both ends of it. The server's are the methods of a `Transport`, the client reads what it keeps.

    Args:
        body: of the request.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._begun = trio.current_time()
        self._head: tuple[int, Mapping[str, str]] | None = None
        self._on_gone: Callable[[], None] | None = None
        self.news: Condition = Condition()
        """Notified of whatever comes."""
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.pieces: list[Piece] = []
        self.whole: bool = False
        """Whether the answer has ended as it should."""
        self.broken: bool = False
        """Whether it was broken off."""
        self.gone: bool = False
        """Whether the client has hung up."""
        self.stalls: bool = False
        """Whether nothing more comes, and no end either."""
        self._left = math.inf
        """Bytes of a raw body that its client still reads."""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.whole or self.broken or self.gone

    # The client's end

    def hang_up(self) -> None:
        """The client goes."""
        if not self.ended:
            self.gone = True
            self.news.notify_all()
            if self._on_gone is not None:
                self._on_gone()

    # The server's

    async def receive_body(self, cap: int, share: Share) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.gone:
            raise ClientGone
        if len(self.body) > cap:
            raise BodyTooLarge
        # Not weighed: what is large would be read in a thread, and a mock clock jumps meanwhile.
        return self.body

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._on_gone = callback
        if self.gone:
            callback()

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self._head = status, {name.lower(): value for name, value in headers.items()}

    def write(self, data: bytes, *, last: bool = False) -> bool:
        if self.ended:
            return True
        if self._head is not None:
            self.status, self.headers = self._head
            self._head = None
        if data:
            self.pieces.append(Piece(trio.current_time() - self._begun, data))
        self.whole = last
        self.news.notify_all()
        return True

    def respond(self, reply: Reply) -> bool:
        self.start(reply.status, reply.headers)
        return self.write(reply.body, last=True)

    @property
    def full(self) -> bool:
        return False

    async def wait(self, news: Condition, until: float) -> None:
        with trio.CancelScope(deadline=until):
            await news.wait()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.gone:
            raise ClientGone

    def check_raw(self, raw: RawResponse) -> None:
        """There are bytes for everything."""

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        if begins and raw.status is not None:
            self.start(raw.status, raw.headers)
            self.write(b"")
        if begins:
            self._left = _length_of(raw)
        for pause, data in raw.pieces:
            await trio.sleep(pause)
            if self.gone:
                raise ClientGone
            self.write(data[: int(min(self._left, len(data)))])
            self._left -= min(self._left, len(data))
        if ends:
            self._end_raw(raw, short=0 < self._left < math.inf)
        else:
            await self.flush()

    def _end_raw(self, raw: RawResponse, *, short: bool) -> None:
        """As HTTP/1.1 has it: what has neither a length nor chunks is whole when its connection is closed."""
        self.stalls = raw.end == "stall"
        self.whole = self.whole or not (
            short
            or raw.end in ("reset", "stall")
            or (raw.end == "close" and raw.framing == "chunked")
            or raw.framing == "none"
        )
        self.news.notify_all()

    async def abort(self) -> None:
        await trio.lowlevel.checkpoint()
        self.end()

    def end(self) -> None:
        """The server has done: what is not whole now never will be."""
        if not (self.ended or self.stalls):
            self.broken = True
            self.news.notify_all()


def _length_of(raw: RawResponse) -> float:
    """The bytes that a client reads of it at the most."""
    told = raw.headers.get("content-length", "")
    return int(told) if raw.framing == "length" and told.isdecimal() else math.inf
