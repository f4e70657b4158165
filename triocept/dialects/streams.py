"""What reads and what writes one streamed response of a dialect: bytes on the one side, events on the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from .._canonical.events import Event
from .._sse import SSE_FRAMES, FrameEnd
from ._failures import Failure

__all__ = ["StreamParser", "StreamRenderer"]


class StreamParser(ABC):
    """Reads one streamed response, byte by byte if need be: any split of the bytes gives the same events.

    Its memory is bounded by one wire event.
    """

    frame_end: ClassVar[FrameEnd] = SSE_FRAMES
    """What ends a frame: bytes that a relay may send on, for they are whole. A stream that is not one of server-sent
    events says here what ends its own (`LINE_FRAMES`: a line); else no end is found in it, and a relayed stream comes
    in one piece, when it is over."""
    left_out: ClassVar[bytes] = b""
    """What ends a stream of this dialect, and what servers leave out all the same: the terminal fact stands before it.
    A relay gives it to the agent where `close` alone ended the answer."""

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes.

        Raises:
            DialectError: the wire breaks its grammar; the path is that inside the wire event.
            UpstreamError: the wire holds an error in place of a response.
        """

    def is_plain_content(self, data: bytes) -> bool:
        """Whether these are, beyond doubt, whole events that say no more than what an answer under way says next.

        A look tells, and a doubt is a no: a relay sends them on before it has them read. No event that begins a call,
        that says why or that an answer ends passes, and no error.
        """
        return False

    @property
    @abstractmethod
    def ending(self) -> bool:
        """Whether the wire has said why the answer ends.

        What follows adds no content: usage perhaps, and the terminal event. `ResponseEnd` may be still to come.
        """

    @abstractmethod
    def close(self) -> list[Event]:
        """The wire has ended: the last events, among them `ResponseEnd` if it was not given yet.

        Raises:
            UpstreamTruncated: the terminal event never came.
        """


class StreamRenderer(ABC):
    """Writes one streamed response: the bytes of its body, events framed."""

    @abstractmethod
    def render(self, event: Event) -> bytes:
        """What `event` adds to the body: perhaps nothing yet, where the wire needs more to be known first."""

    @abstractmethod
    def fail(self, failure: Failure) -> bytes:
        """The in-band error that ends a stream which cannot go on; behind it is the end of the connection."""

    @abstractmethod
    def keepalive(self, response_id: str = "") -> bytes:
        """A no-op of the protocol, for a silence: never an SSE comment, which some clients choke on.

        Args:
            response_id: the id that the answer will have, where the no-op is the first to tell it.
        """
