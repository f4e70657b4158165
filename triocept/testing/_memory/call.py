"""Call of an agent in memory, from the agent's side."""

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
    """A call and its answer so far. Made by a `MemoryAgent` only; `agent.calls` holds all calls."""

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
        """Decoded request body; None if it was not JSON."""
        try:
            return decode_json(self._transport.body)
        except DialectError:
            return None

    @property
    def status(self) -> int | None:
        """HTTP status; None if no head has arrived."""
        return self._transport.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer, names in lower case."""
        return self._transport.headers

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Pieces of the body as they arrived, including keep-alives."""
        return tuple(self._transport.pieces)

    @property
    def body(self) -> bytes:
        """Whole body so far."""
        return b"".join(piece.data for piece in self._transport.pieces)

    @property
    def end(self) -> str:
        """State of the answer: `whole`, `broken` (by the server), `hung up` (by the agent), or `open`."""
        ends = {"whole": self._transport.whole, "broken": self.broken, "hung up": self._transport.gone}
        return next((end for end, is_so in ends.items() if is_so), "open")

    @property
    def longest_silence(self) -> float:
        """Longest time without a byte, in seconds: read timeouts of real clients limit this time."""
        ended = self._ended if self._ended is not None else trio.current_time() - self._begun
        times = [0.0, *(piece.at for piece in self._transport.pieces), ended]
        return max(later - earlier for earlier, later in pairwise(times))

    # For the reader of the answer

    @property
    def is_stream(self) -> bool:
        """True if the head announces a stream."""
        return self.headers.get("content-type", "").partition(";")[0].strip() not in ("application/json", "")

    @property
    def broken(self) -> bool:
        return self._transport.broken

    async def wait_head(self) -> None:
        """Wait for the head of the answer.

        Raises:
            UpstreamTruncated: the connection ended without a head.
            ExchangeAbandoned, TimeoutError: see `receive`.
        """
        transport = self._transport
        while transport.status is None and not transport.ended:
            await self._wait()
        self._check()
        if transport.status is None:
            raise UpstreamTruncated("the connection was broken off before an answer")

    async def receive(self) -> bytes | None:
        """Return the next bytes of the body; None at its end.

        Raises:
            ExchangeAbandoned: the agent has disconnected.
            TimeoutError: no byte arrived in time; the agent has disconnected.
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
        """Return the whole body.

        Raises:
            UpstreamTruncated: the answer was broken off.
            ExchangeAbandoned, TimeoutError: see `receive`.
        """
        while await self.receive() is not None:
            pass
        if self._transport.broken:
            raise UpstreamTruncated("the answer was broken off")
        return self.body

    def hang_up(self) -> None:
        """Disconnect, if the call has not ended."""
        self._transport.hang_up()
        self.note_end()

    def note_end(self) -> None:
        """Record the end of the call for the agent."""
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
