"""Convert a provider's stream, whose bytes arrive in any pieces, to pieces that consist of whole frames.

Rules:

1. A piece consists of whole frames, so that the endpoint can insert a keep-alive or an error between any two pieces.
2. Bytes before the first increment of the answer are not sent until this increment arrives. Until then, a failure can
   still be sent with its own HTTP status.
3. The frame with the stop reason, and all frames after it, form the last piece. The last piece is not sent until the
   event that ends the answer has arrived. Bytes after this event are discarded, so that the agent never gets a second
   such event.
4. Some servers send no `[DONE]`, and leave the connection open. So if a provider has sent the stop reason, and is then
   silent for `END_PATIENCE`, the answer counts as ended. The agent gets the `[DONE]` that the server left out.
5. Bytes that are clearly content of a running answer may be sent to the agent before they are parsed. The reason: a
   relay delays an event mainly by parsing the event.
6. Content that came before a failure is sent before the failure. Without content, the failure is still sent with its
   own HTTP status.
7. With `hold_calls`, the first frame of a tool call and all bytes after it belong to the last piece. Without this rule,
   an agent would run a complete tool call although the rest of the answer may still fail. The events of these bytes are
   passed on when they arrive, in pieces without bytes.
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
from .failures import NO_SERVER, Reader
from .headers import passed_down
from .request import MAX_DOCUMENT

if TYPE_CHECKING:
    from .transport import ProviderReply

END_PATIENCE = 1.0
"""Seconds of silence after the stop reason, after which an answer counts as ended."""


class Frames:
    """Splits received bytes into frames. The search for the end of a frame reads each byte only once."""

    def __init__(self, end: FrameEnd = SSE_FRAMES) -> None:
        self._end = end
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes, and return the frames that are complete now.

        Raise DialectError if a frame is too large.
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
            raise DialectError(f"a frame of the stream is larger than the maximum of {MAX_EVENT} bytes")
        return frames

    @property
    def whole(self) -> bool:
        """True if `feed` has returned all received bytes as frames."""
        return not self._rest

    def rest(self) -> bytes:
        """Return the received bytes after the last complete frame.

        If these bytes end with a CR, the CR may be the end of a frame.
        """
        rest, self._rest = bytes(self._rest), bytearray()
        return rest


class Relay:
    """Converts the bytes of a provider's stream to pieces of whole frames with their events, without I/O.

    Args:
        parser: the parser of the provider's dialect.
        rewrite: a function that is called with each frame. `rewrite` returns the frame to parse, and the frame for the
            agent.
        hold_calls: if True, the bytes of tool calls are held back until the answer has ended.
        most_held: maximum bytes that are held back.
    """

    def __init__(
        self,
        parser: StreamParser,
        rewrite: Callable[[bytes], tuple[bytes, bytes]] | None = None,
        *,
        hold_calls: bool = False,
        most_held: int = MAX_DOCUMENT,
    ) -> None:
        self.parser = parser
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
        """The failure that must be raised after the last piece that `feed` has returned. None if no failure has
        occurred."""
        self.ended = False
        """True if the piece that `last` will return contains the event that ends the answer."""

    @property
    def ending(self) -> bool:
        """True if the provider has sent the stop reason, so that nothing but the end of the stream is missing."""
        return self.parser.ending

    def is_plain_content(self, data: bytes) -> bool:
        """Return True if `data` is certainly content within the answer. Such data can be sent before it is parsed."""
        return (
            self._begun
            and self._rewrite is None
            and not self._holding
            and self._frames.whole
            and not self._ready.data
            and not self.parser.ending
            and self.parser.is_plain_content(data)
        )

    def feed(self, data: bytes, *, passed: bool = False) -> Relayed | None:
        """Process received bytes, and return the next piece. Return None if no piece can be sent yet.

        `passed` is True if the bytes were already sent to the agent. Then a piece with these bytes is always returned.

        Raises:
            UpstreamError: the provider reports a failure.
            DialectError: the bytes are not valid in the provider's dialect.
        """
        try:
            for frame in self._frames.feed(data):
                if not self.ended:
                    self._take(frame)
        except (UpstreamError, DialectError) as exc:
            if not self._ready.has_content:
                raise
            self.failure = exc
        if passed:
            return self.last()
        self._begun = self._begun or bool(self._ready.events)
        return self._ready.take() if self._ready.events else None

    def close(self) -> None:
        """Process the end of the provider's stream. Raise UpstreamTruncated if the answer is not complete."""
        if self.ended:
            return
        rest, end = self._frames.rest(), self.parser.left_out
        # Drop an incomplete frame: it has no meaning, and would make the end of the answer after it unreadable.
        if rest and (not end or self.parser.frame_end.last.search(rest)):
            self._take(rest)
        if not self.ended:
            self._add(end, self.parser.close())

    def last(self) -> Relayed:
        """Return the last piece.

        The piece consists of all frames that were not sent yet, and contains the event that ends the answer.
        """
        self._ready.data += self._held.data
        self._ready.events += self._held.events
        self._held = _Gathered()
        return self._ready.take()

    def _take(self, frame: bytes) -> None:
        read, shown = (frame, frame) if self._rewrite is None else self._rewrite(frame)
        self._add(shown, self.parser.feed(read))

    def _add(self, frame: bytes, events: list[Event]) -> None:
        self.ended = bool(events) and isinstance(events[-1], ResponseEnd)
        ending = self.ending or self.ended
        if self._hold_calls and not self._holding and any(map(begins_call, events)):
            self._holding = True
        if ending or self._holding:
            self._held.data.append(frame)
            self._held_size += len(frame)
            if self._held_size > self._most_held:
                raise UpstreamError(
                    f"with hold_calls, triocept can store at most {self._most_held} bytes of a provider's answer until "
                    "its end, but this answer is longer"
                )
        else:
            self._ready.data.append(frame)
        (self._held if ending else self._ready).events += events


class _Gathered:
    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.events: list[Event] = []

    @property
    def has_content(self) -> bool:
        return any(not isinstance(event, ResponseStart) for event in self.events)

    def take(self) -> Relayed:
        piece = Relayed(b"".join(self.data), tuple(self.events))
        self.data, self.events = [], []
        return piece


@final
class Pieces:
    """The pieces of a provider's stream, as they arrive. The last piece ends with the event that ends the answer.

    `pass_on` is called with bytes that may be sent before they are parsed. `pass_on` returns True if it has sent these
    bytes to the agent.
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
        self._begun = False

    @property
    def parser(self) -> StreamParser:
        return self._relay.parser

    async def next(self) -> Relayed | None:
        """Wait for the next piece and return it. Return None after the last piece.

        Raise UpstreamTruncated if the stream ended before the event that ends the answer. Raise UpstreamError if the
        provider sends an error, or if the stream is not valid in the provider's dialect.
        """
        try:
            piece = await self._next()
        except (DialectError, UpstreamError) as exc:
            if not self._begun and self._reply.media_type == "text/html":
                raise UpstreamError(NO_SERVER, headers=passed_down(self._reply.headers)) from None
            if isinstance(exc, UpstreamError):  # it contains the key
                raise self._reader.own_error(exc, b"", self._reply.headers) from None
            raise self._reader.unreadable(exc, b"", self._reply.headers) from exc
        self._begun = True
        if piece is None or self._names is None:
            return piece
        return Relayed(piece.data, tuple(map(self._names.event, piece.events)))

    async def _next(self) -> Relayed | None:
        relay = self._relay
        while not self._ended:
            if relay.failure is not None:
                raise relay.failure
            data = b""
            if relay.ending and not relay.ended:  # wait for the terminal event, but not for long
                with trio.move_on_after(END_PATIENCE):
                    data = await self._reply.receive()
            elif not relay.ended:
                data = await self._reply.receive()
            if data:
                passed = self._pass_on is not None and relay.is_plain_content(data) and self._pass_on(data)
                if (piece := relay.feed(data, passed=passed)) is not None:
                    if piece.events:
                        self._reply.patience.reset()
                    return piece
            else:
                self._ended = True
                relay.close()
                return relay.last()
        await self._reply.drain()
        return None
