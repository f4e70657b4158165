"""A call of an agent in memory. The call sends a request over HTTP/1.1, and receives the answer piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, final

import h11
import msgspec
import trio

from ..._canonical.content import Json
from ...dialects.kit import decode_json
from ...errors import DialectError, ExchangeAbandoned, UpstreamTruncated
from .stream import MemoryStream

_MAX_HEAD = 100 * 1024
"""Maximum bytes of an answer's head. httpcore2, the HTTP client of the SDKs, has the same limit."""
_MAX_RECEIVE = 64 * 1024


class Piece(msgspec.Struct, frozen=True):
    """Bytes of an answer's body that arrived at the same time."""

    at: float
    """Seconds after the start of the call, by trio's clock."""
    data: bytes


@final
class MemoryCall:
    """A model call and its answer so far. Only a `MemoryAgent` creates instances; `agent.calls` lists all calls."""

    def __init__(self, stream: MemoryStream, head: h11.Request, body: bytes, timeout: float) -> None:
        self._stream = stream
        self._body = body
        self._timeout = timeout
        self._http = h11.Connection(h11.CLIENT, _MAX_HEAD)
        sent = [self._http.send(event) for event in (head, h11.Data(body), h11.EndOfMessage())]
        self._request = b"".join(filter(None, sent))
        self._head: h11.Response | None = None
        self._pieces: list[Piece] = []
        self._taken = 0
        self._news = trio.lowlevel.ParkingLot()
        self._begun = trio.current_time()
        self._ended: float | None = None
        self._end: Literal["open", "whole", "broken", "hung up"] = "open"

    def __repr__(self) -> str:
        return f"<MemoryCall {self.status}: {len(self.body)} bytes in {len(self.pieces)} pieces, {self.end}>"

    @property
    def document(self) -> Json:
        """The decoded JSON body of the request; None if the body was not JSON."""
        try:
            return decode_json(self._body)
        except DialectError:
            return None

    @property
    def status(self) -> int | None:
        """HTTP status of the answer; None until the status has arrived."""
        return None if self._head is None else self._head.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer, with names in lower case; empty until the headers have arrived."""
        received = () if self._head is None else self._head.headers
        return {name.decode(): value.decode("latin-1") for name, value in received}

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Pieces of the answer's body in the order of arrival, including keep-alives."""
        return tuple(self._pieces)

    @property
    def body(self) -> bytes:
        """The bytes of the answer's body that have arrived."""
        return b"".join(piece.data for piece in self._pieces)

    @property
    def end(self) -> str:
        """State of the answer: `open`, `whole`, `broken` (by the server), or `hung up` (the agent has disconnected)."""
        return self._end

    @property
    def longest_silence(self) -> float:
        """Longest time in which no byte of the answer arrived, in seconds.

        A real client disconnects if it exceeds the read timeout.
        """
        ended = self._ended if self._ended is not None else trio.current_time() - self._begun
        times = [0.0, *(piece.at for piece in self._pieces), ended]
        return max(later - earlier for earlier, later in pairwise(times))

    # For the agent

    @trio.lowlevel.enable_ki_protection
    async def send(self) -> None:
        """Send the request. The server may answer before it has received the whole request."""
        try:
            await self._stream.send_all(self._request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Receive the answer until it ends, and add its bytes to `pieces`."""
        try:
            while self._end == "open":
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(bytes(await self._stream.receive_some(_MAX_RECEIVE)))
                elif isinstance(event, h11.Response):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._pieces.append(Piece(self._now(), bytes(event.data)))
                elif isinstance(event, h11.EndOfMessage):
                    self._finish("whole")
                self._news.unpark_all()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            self._finish("broken")
        except trio.ClosedResourceError:
            pass  # `hang_up` has closed the connection
        finally:
            self.hang_up()  # without effect on an answer that has ended

    # For the reader of the answer

    @property
    def is_stream(self) -> bool:
        """True if the content type shows that the answer is streamed, and not one JSON body."""
        return self.headers.get("content-type", "").partition(";")[0].strip() not in ("application/json", "")

    @property
    def broken(self) -> bool:
        return self._end == "broken"

    async def wait_head(self) -> None:
        """Wait until the answer's head (status and headers) has arrived.

        Raises:
            UpstreamTruncated: the connection ended before the head arrived.
            ExchangeAbandoned, TimeoutError: see `receive`.
        """
        while self._head is None and self._end == "open":
            await self._wait()
        self._check()
        if self._head is None:
            raise UpstreamTruncated("the server closed the connection before it sent an answer")

    async def receive(self) -> bytes | None:
        """Wait for the next bytes of the answer's body, and return them. Return None at the end of the body.

        Raises:
            ExchangeAbandoned: the agent has disconnected.
            TimeoutError: no byte arrived within the timeout, so the agent has disconnected.
        """
        if len(self._pieces) > self._taken:
            await trio.lowlevel.checkpoint()
        while len(self._pieces) == self._taken and self._end == "open":
            await self._wait()
        self._check()
        if len(self._pieces) == self._taken:
            return None
        self._taken += 1
        return self._pieces[self._taken - 1].data

    async def read(self) -> bytes:
        """Wait for the whole body of the answer, and return it.

        Raises:
            UpstreamTruncated: the connection ended before the answer was complete.
            ExchangeAbandoned, TimeoutError: see `receive`.
        """
        while await self.receive() is not None:
            pass
        if self.broken:
            raise UpstreamTruncated(
                "the answer was broken off: the connection ended before the answer was complete"
            )
        return self.body

    def hang_up(self) -> None:
        """Disconnect from the server. If the answer has not ended, `end` becomes `hung up`."""
        self._finish("hung up")
        self._stream.close()

    def _finish(self, end: Literal["whole", "broken", "hung up"]) -> None:
        if self._end == "open":
            self._end, self._ended = end, self._now()
            self._news.unpark_all()

    def _now(self) -> float:
        return trio.current_time() - self._begun

    def _check(self) -> None:
        if self._end == "hung up":
            raise ExchangeAbandoned("the agent has disconnected")

    async def _wait(self) -> None:
        with trio.move_on_after(self._timeout) as scope:
            await self._news.park()
        if scope.cancelled_caught:
            self.hang_up()
            raise TimeoutError(
                f"no data arrived for {self._timeout:g} seconds, so the agent has disconnected"
            )
