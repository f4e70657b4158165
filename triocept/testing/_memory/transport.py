"""Connection in memory: the client receives each write at once, and no buffer is ever full."""

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
    """Bytes of an answer's body that arrived together."""

    at: float
    """Seconds after the start of the call, by trio's clock."""
    data: bytes


@final
class MemoryTransport(Transport):
    """Both ends of a connection: the server uses the methods of `Transport`, the client reads the attributes.

    Args:
        body: body of the request.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._begun = trio.current_time()
        self._head: tuple[int, Mapping[str, str]] | None = None
        self._on_gone: Callable[[], None] | None = None
        self.news: Condition = Condition()
        """Condition that is notified of each change."""
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.pieces: list[Piece] = []
        self.whole: bool = False
        """True if the answer has ended regularly."""
        self.broken: bool = False
        """True if the answer was broken off."""
        self.gone: bool = False
        """True if the client has disconnected."""
        self.stalls: bool = False
        """True if the answer stalls: no more bytes arrive, and no end either."""
        self._left = math.inf
        """Bytes of a raw body that the client will still read."""

    @property
    def ended(self) -> bool:
        """True if no more bytes can arrive."""
        return self.whole or self.broken or self.gone

    # The client's end

    def hang_up(self) -> None:
        """Disconnect the client."""
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
        # Not counted against the share: a thread would read a large body, and a mock clock would jump meanwhile.
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
        """Accept every raw response: all of them can be written in memory."""

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
        """End the answer as HTTP/1.1 does: a body without length or chunks is whole when its connection closes."""
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
        """End the server's side: an answer that is not whole now counts as broken."""
        if not (self.ended or self.stalls):
            self.broken = True
            self.news.notify_all()


def _length_of(raw: RawResponse) -> float:
    """Return the maximum bytes that a client reads of the body."""
    told = raw.headers.get("content-length", "")
    return int(told) if raw.framing == "length" and told.isdecimal() else math.inf
