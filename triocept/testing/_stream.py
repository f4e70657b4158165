"""Answer given piece by piece, by a program outside the loop."""

from __future__ import annotations

from functools import partial
from typing import final

from .._canonical.events import Event
from .._canonical.response import ResponsePart, StopReason, Usage
from .._rollout.exchange import ResponseStream
from ._loop import Loop


@final
class SyncStream:
    """Sender of the increments of an answer. Made by `SyncExchange.open_stream` only."""

    def __init__(self, stream: ResponseStream, loop: Loop) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def ended(self) -> bool:
        """True if the terminal event was sent."""
        return self._stream.ended

    def send(self, item: str | ResponsePart | Event) -> None:
        """Send one increment; wait while the agent's connection accepts no more bytes.

        Args:
            item: a `str` continues the current text, or begins a new text; a part is sent whole; an event is sent
                unchanged.

        Raises:
            Exception: see `ResponseStream.send` and `SyncExchange.respond`.
        """
        self._loop.call(self._stream.send, item)

    def end(
        self,
        *,
        stop_reason: StopReason | None = None,
        stop_sequence: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        """End the answer. Arguments and errors: see `ResponseStream.end`."""
        end = partial(self._stream.end, stop_reason=stop_reason, stop_sequence=stop_sequence, usage=usage)
        self._loop.call(end)
