"""A provider's stream: from bytes as they come to pieces that are whole.

Rules:

1. A piece is whole frames, so that a no-op or an error of ours can stand between any two.
2. What comes before the first increment waits for it: until then a failure still has its HTTP status.
3. From the frame on that says why the answer ends, everything waits for the terminal event, and is the last piece.
   What comes behind that event is thrown away: nobody gets a second end.
4. A provider that has said why it ended but not that it ended, and is silent for `END_PATIENCE`, has ended: so do
   servers without `[DONE]` whose connection stays open. The agent gets the `[DONE]` that they left out.
5. Bytes that are beyond doubt the content of an answer under way may go to the agent before they are read here: most
   of what a relay adds to an event is the time to read it.
6. What came before a failure goes on before it, unless it is no content: then the failure still has its HTTP status.
7. Where calls are held, the bytes from the first frame of a call on are those of the last piece: an agent that has a
   call whole runs it, though the answer may still break. What they say is told as it comes, in pieces without bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import trio

from .._canonical.events import Event, ResponseEnd, ResponseStart, begins_call
from .._rollout.answer import Relayed
from .._util.sse import MAX_EVENT, SSE_FRAMES, FrameEnd
from ..dialects._tool_names import ToolNames
from ..dialects.streams import StreamParser
from ..errors import DialectError, UpstreamError
from .failures import Reader
from .request import MAX_DOCUMENT

if TYPE_CHECKING:
    from .transport import ProviderReply

END_PATIENCE = 1.0
"""Seconds."""


class Frames:
    """Cuts bytes behind every frame. What was searched once is not searched again."""

    def __init__(self, end: FrameEnd = SSE_FRAMES) -> None:
        self._end = end
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes.

        Raises:
            DialectError: one frame is larger than an event may be.
        """
        searched = len(self._rest)
        whole: bytes | bytearray = data
        if searched:
            self._rest += data
            whole = self._rest
        frames: list[bytes] = []
        start = 0
        for found in self._end.pattern.finditer(whole, max(0, searched - self._end.longest)):
            frames.append(bytes(whole[start : found.end()]))
            start = found.end()
        if searched:
            del self._rest[:start]
        elif start < len(data):
            self._rest += data[start:]
        if len(self._rest) > MAX_EVENT:
            raise DialectError(f"a frame of the stream is larger than {MAX_EVENT} bytes")
        return frames

    @property
    def whole(self) -> bool:
        """Whether nothing waits for its end."""
        return not self._rest

    def rest(self) -> bytes:
        """What has no end behind it, but that a CR at the end of all bytes may be one."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest


class Relay:
    """Takes a stream's bytes, gives its pieces. Sans-IO.

    Args:
        parser: of the provider's dialect.
        rewrite: takes a frame before anybody else sees it; gives what is read in its place, and what the agent gets.
        hold_calls: whether the bytes of calls wait for the end of the answer.
        most_held: bytes that may wait for it.
    """

    def __init__(
        self,
        parser: StreamParser,
        rewrite: Callable[[bytes], tuple[bytes, bytes]] | None = None,
        *,
        hold_calls: bool = False,
        most_held: int = MAX_DOCUMENT,
    ) -> None:
        self._parser = parser
        self._rewrite = rewrite
        self._hold_calls = hold_calls
        self._most_held = most_held
        self._held_size = 0
        self._holding = False
        self._frames = Frames(parser.frame_end)
        self._ready = _Gathered()
        self._held = _Gathered()
        self._begun = False
        self.failure: UpstreamError | DialectError | None = None
        """What comes behind the piece that `feed` gave last."""
        self.ended = False
        """Whether the terminal event is in what `last` gives."""

    @property
    def ending(self) -> bool:
        """Whether the provider has said why the answer ends."""
        return self._parser.ending

    def is_plain_content(self, data: bytes) -> bool:
        """Whether `data` is beyond doubt a piece, and not the last: it may go to the agent before it is fed."""
        return (
            self._begun
            and self._rewrite is None
            and not self._holding
            and self._frames.whole
            and not self._ready.data
            and not self._parser.ending
            and self._parser.is_plain_content(data)
        )

    def feed(self, data: bytes, *, passed: bool = False) -> Relayed | None:
        """The piece that `data` completes; None: nothing yet, or all that is left is the last one.

        Args:
            data: as it came.
            passed: whether the agent has it already. Then it is a piece, whatever it says.

        Raises:
            UpstreamError: the provider says that it failed.
            DialectError: this is not its dialect.
        """
        try:
            for frame in self._frames.feed(data):
                if not self.ended:
                    self._take(frame)
        except (UpstreamError, DialectError) as exc:
            if not self._ready.content:
                raise
            self.failure = exc
        if passed:
            return self.last()
        self._begun = self._begun or bool(self._ready.events)
        return self._ready.take() if self._ready.events else None

    def close(self) -> None:
        """The bytes have ended.

        Raises:
            UpstreamTruncated: the answer has not.
        """
        if self.ended:
            return
        rest, end = self._frames.rest(), self._parser.left_out
        # A frame in pieces says nothing, and would spoil the end behind it.
        if rest and (not end or self._parser.frame_end.last.search(rest)):
            self._take(rest)
        if not self.ended:
            self._add(end, self._parser.close())

    def last(self) -> Relayed:
        """The last piece: the terminal event, and all that waited for it."""
        self._ready.data += self._held.data
        self._ready.events += self._held.events
        self._held = _Gathered()
        return self._ready.take()

    def _take(self, frame: bytes) -> None:
        read, shown = (frame, frame) if self._rewrite is None else self._rewrite(frame)
        self._add(shown, self._parser.feed(read))

    def _add(self, frame: bytes, events: list[Event]) -> None:
        self.ended = bool(events) and isinstance(events[-1], ResponseEnd)
        ending = self.ending or self.ended
        if self._hold_calls and not self._holding and any(map(begins_call, events)):
            self._holding = True
        if ending or self._holding:
            self._hold(frame)
        else:
            self._ready.data.append(frame)
        (self._held if ending else self._ready).events += events

    def _hold(self, frame: bytes) -> None:
        self._held.data.append(frame)
        self._held_size += len(frame)
        if self._held_size > self._most_held:
            raise UpstreamError(
                f"more of the provider's answer waits for its end than {self._most_held} bytes"
            )


class _Gathered:
    """A piece that is being put together."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.events: list[Event] = []

    @property
    def content(self) -> bool:
        """Whether there is more in it than that an answer begins."""
        return any(not isinstance(event, ResponseStart) for event in self.events)

    def take(self) -> Relayed:
        piece = Relayed(b"".join(self.data), tuple(self.events))
        self.data, self.events = [], []
        return piece


@final
class Pieces:
    """The pieces of a provider's stream; the last of them, and no other, has the terminal event.

    Args:
        reply: whose body it is.
        relay: reads it.
        reader: says what is wrong with it.
        names: gives tools their own names back.
        pass_on: gives the agent bytes before they are read, if it can take them now: whether it did.
    """

    def __init__(
        self,
        reply: ProviderReply,
        relay: Relay,
        reader: Reader,
        *,
        names: ToolNames | None = None,
        pass_on: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._reply = reply
        self._relay = relay
        self._reader = reader
        self._names = names
        self._pass_on = pass_on
        self._ended = False

    async def next(self) -> Relayed | None:
        """The next piece; None behind the last.

        Raises:
            UpstreamTruncated: the stream ended before its terminal event.
            UpstreamError: the provider says that it failed; or this is not its dialect.
        """
        try:
            piece = await self._next()
        except DialectError as exc:
            raise self._reader.unreadable(exc, b"", self._reply.headers) from exc
        except UpstreamError as exc:
            raise self._reader.told(exc, b"", self._reply.headers) from None  # that one has the key
        if piece is None or self._names is None:
            return piece
        return Relayed(piece.data, tuple(map(self._names.event, piece.events)))

    async def _next(self) -> Relayed | None:
        relay = self._relay
        while not self._ended:
            if relay.failure is not None:
                raise relay.failure
            data = b"" if relay.ended else await self._receive()
            if data:
                passed = self._pass_on is not None and relay.is_plain_content(data) and self._pass_on(data)
                if (piece := relay.feed(data, passed=passed)) is not None:
                    if piece.events:
                        self._reply.patience.heard()
                    return piece
            else:
                self._ended = True
                relay.close()
                return relay.last()
        await self._reply.drain()
        return None

    async def _receive(self) -> bytes:
        """More of the bytes; none at their end, or where no more are waited for."""
        if not self._relay.ending:
            return await self._reply.receive()
        with trio.move_on_after(END_PATIENCE):
            return await self._reply.receive()
        return b""
