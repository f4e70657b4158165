"""One call of an agent in memory, as it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import final

import trio

from ..._canonical.content import Json
from ...dialects.kit import decode_json
from ...errors import DialectError, ExchangeAbandoned, UpstreamTruncated
from .transport import MemoryTransport, Piece


@final
class MemoryCall:
    """One call, and what has come of it so far. Made by a `MemoryAgent` only; `agent.calls` has them all."""

    def __init__(self, transport: MemoryTransport, timeout: float) -> None:
        self._transport = transport
        self._timeout = timeout
        self._taken = 0
        self._begun = trio.current_time()
        self._ended: float | None = None

    def __repr__(self) -> str:
        return f"<MemoryCall {self.status}: {len(self.body)} bytes in {len(self.pieces)} pieces, {self.end}>"

    @property
    def document(self) -> Json:
        """What was sent, decoded; None where it was no JSON."""
        try:
            return decode_json(self._transport.body)
        except DialectError:
            return None

    @property
    def status(self) -> int | None:
        """The HTTP status; None: there is no head yet, or there was none."""
        return self._transport.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer, names in lower case."""
        return self._transport.headers

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The body, in the pieces in which it came: what fills a silence is among them."""
        return tuple(self._transport.pieces)

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(piece.data for piece in self._transport.pieces)

    @property
    def end(self) -> str:
        """How it has ended: `whole`, `broken` (off, by the server), `hung up` (by the agent); or `open`."""
        ends = {"whole": self._transport.whole, "broken": self.broken, "hung up": self._transport.gone}
        return next((end for end, is_so in ends.items() if is_so), "open")

    @property
    def longest_silence(self) -> float:
        """Seconds: the longest time in which nothing came, which is what the time limits of real clients look at."""
        ended = self._ended if self._ended is not None else trio.current_time() - self._begun
        times = [0.0, *(piece.at for piece in self._transport.pieces), ended]
        return max(later - earlier for earlier, later in pairwise(times))

    # For whoever reads it

    @property
    def is_stream(self) -> bool:
        """Whether its head says that the answer is one."""
        return self.headers.get("content-type", "").partition(";")[0].strip() not in ("application/json", "")

    @property
    def broken(self) -> bool:
        return self._transport.broken

    async def wait_head(self) -> None:
        """Wait for the head of the answer.

        Raises:
            UpstreamTruncated: there is none.
            ExchangeAbandoned, TimeoutError: as `receive`.
        """
        transport = self._transport
        while transport.status is None and not transport.ended:
            await self._wait()
        self._check()
        if transport.status is None:
            raise UpstreamTruncated("the connection was broken off before an answer")

    async def receive(self) -> bytes | None:
        """The next bytes of the body; None: there are no more.

        Raises:
            ExchangeAbandoned: the agent has hung up.
            TimeoutError: nothing came for too long; the agent has hung up.
        """
        transport = self._transport
        if len(transport.pieces) > self._taken:
            await trio.lowlevel.checkpoint()
        while len(transport.pieces) == self._taken and not transport.ended:
            await self._wait()
        self._check()
        if len(transport.pieces) == self._taken:
            return None
        self._taken += 1
        return transport.pieces[self._taken - 1].data

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            UpstreamTruncated: it was broken off.
            ExchangeAbandoned, TimeoutError: as `receive`.
        """
        while await self.receive() is not None:
            pass
        if self._transport.broken:
            raise UpstreamTruncated("the answer was broken off")
        return self.body

    def hang_up(self) -> None:
        """Go, if it has not ended."""
        self._transport.hang_up()
        self.note_end()

    def note_end(self) -> None:
        """It has ended, for the agent."""
        if self._ended is None:
            self._ended = trio.current_time() - self._begun

    def _check(self) -> None:
        if self._transport.gone:
            raise ExchangeAbandoned("the agent has hung up")

    async def _wait(self) -> None:
        with trio.move_on_after(self._timeout) as scope:
            await self._transport.news.wait()
        if scope.cancelled_caught:
            self.hang_up()
            raise TimeoutError(f"nothing came for {self._timeout:g} seconds: the agent has hung up")
