"""An answer given piece by piece, by a program that is not the loop's."""

from __future__ import annotations

from functools import partial
from typing import final

from .._canonical.events import Event
from .._canonical.response import ResponsePart, StopReason, Usage
from .._rollout.exchange import ResponseStream
from ._loop import Loop


@final
class SyncStream:
    """Where the increments of an answer go. Made by `SyncExchange.open_stream` only."""

    def __init__(self, stream: ResponseStream, loop: Loop) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def ended(self) -> bool:
        """Whether the terminal event was sent."""
        return self._stream.ended

    def send(self, item: str | ResponsePart | Event) -> None:
        """Send one increment, and wait while the agent's connection takes no more.

        Args:
            item: a `str` goes on with the text that is being written, or begins one; a part is sent whole; an event is
                sent as it is.

        Raises:
            Exception: as `ResponseStream.send`, and `SyncExchange.respond`.
        """
        self._loop.call(self._stream.send, item)

    def end(
        self,
        *,
        stop_reason: StopReason | None = None,
        stop_sequence: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        """End the answer; arguments and errors as of `ResponseStream.end`."""
        end = partial(self._stream.end, stop_reason=stop_reason, stop_sequence=stop_sequence, usage=usage)
        self._loop.call(end)
