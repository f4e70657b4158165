"""A provider's stream: from bytes as they come to pieces that are whole.

Rules:

1. A piece is whole frames, so that a no-op or an error of ours can stand between any two.
2. What comes before the first increment waits for it: until then a failure still has its HTTP status.
3. From the frame on that says why the answer ends, everything waits for the terminal event, and is the last piece.
   What comes behind that event is thrown away: nobody gets a second end.
4. A provider that has said why it ended but not that it ended, and is silent for `END_PATIENCE`, has ended: so do
   servers without `[DONE]` whose connection stays open.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable

import trio

from .._canonical.events import Event, ResponseEnd
from .._rollout.log import Relayed
from .._sse import MAX_EVENT
from ..dialects.base import StreamParser
from ..errors import DialectError
from .transport import Reply

__all__ = ["Frames", "Relay", "relayed"]

END_PATIENCE = 1.0
"""Seconds."""

_FRAME_END = re.compile(
    rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))"
)  # a CR at the end may be half of a CR LF


class Frames:
    """Cuts bytes behind every empty line."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes.

        Raises:
            DialectError: one frame is larger than an event may be.
        """
        if self._pieces:
            data = b"".join([*self._pieces, data]) if self._may_end(data) else self._kept(data)
        frames: list[bytes] = []
        start = 0
        for found in _FRAME_END.finditer(data):
            frames.append(data[start : found.end()])
            start = found.end()
        if start < len(data) or frames:
            self._pieces, self._size = [], 0
        if start < len(data):
            self._kept(data[start:])
        return frames

    def rest(self) -> bytes:
        """What has no empty line behind it."""
        rest, self._pieces, self._size = b"".join(self._pieces), [], 0
        return rest

    def _may_end(self, data: bytes) -> bool:
        return b"\n" in data or b"\r" in data

    def _kept(self, data: bytes) -> bytes:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MAX_EVENT:
            raise DialectError(f"a frame of the stream is larger than {MAX_EVENT} bytes")
        return b""


class Relay:
    """Takes a stream's bytes, gives its pieces. Sans-IO.

    Args:
        parser: of the provider's dialect.
        rewrite: takes a frame before anybody else sees it; gives what is read in its place, and what the agent gets.
    """

    def __init__(
        self, parser: StreamParser, rewrite: Callable[[bytes], tuple[bytes, bytes]] | None = None
    ) -> None:
        self._parser = parser
        self._rewrite = rewrite
        self._frames = Frames()
        self._ready = _Gathered()
        self._held = _Gathered()
        self.ended = False
        """Whether the terminal event is in what `last` gives."""

    @property
    def ending(self) -> bool:
        """Whether the provider has said why the answer ends."""
        return self._parser.ending

    def feed(self, data: bytes) -> Relayed | None:
        """The piece that `data` completes; None: nothing yet, or all that is left is the last one.

        Raises:
            UpstreamError: the provider says that it failed.
            DialectError: this is not its dialect.
        """
        for frame in self._frames.feed(data):
            if not self.ended:
                self._take(frame)
        return self._ready.take() if self._ready.events else None

    def close(self) -> None:
        """The bytes have ended.

        Raises:
            UpstreamTruncated: the answer has not.
        """
        if not self.ended and (rest := self._frames.rest()):
            self._take(rest)
        if not self.ended:
            self._add(b"", self._parser.close())

    def last(self) -> Relayed:
        """The last piece: the terminal event, and all that waited for it."""
        ready, held = self._ready.take(), self._held.take()
        return Relayed(ready.data + held.data, ready.events + held.events)

    def _take(self, frame: bytes) -> None:
        read, shown = (frame, frame) if self._rewrite is None else self._rewrite(frame)
        self._add(shown, self._parser.feed(read))

    def _add(self, frame: bytes, events: list[Event]) -> None:
        self.ended = bool(events) and isinstance(events[-1], ResponseEnd)
        into = self._held if self.ending or self.ended else self._ready
        into.data.append(frame)
        into.events += events


class _Gathered:
    """A piece that is being put together."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.events: list[Event] = []

    def take(self) -> Relayed:
        piece = Relayed(b"".join(self.data), tuple(self.events))
        self.data, self.events = [], []
        return piece


async def relayed(reply: Reply, relay: Relay) -> AsyncGenerator[Relayed, None]:
    """The pieces of a stream; the last of them, and no other, is `last`.

    Raises:
        UpstreamTruncated: the stream ended before its terminal event.
        UpstreamError: the provider says that it failed.
        DialectError: this is not its dialect.
    """
    while not relay.ended and (data := await _receive(reply, relay)):
        piece = relay.feed(data)
        if piece is not None:
            yield piece
    relay.close()
    yield relay.last()
    await reply.drain()


async def _receive(reply: Reply, relay: Relay) -> bytes:
    """More of the bytes; none at their end, or where no more are waited for."""
    if not relay.ending:
        return await reply.receive()
    with trio.move_on_after(END_PATIENCE):
        return await reply.receive()
    return b""
