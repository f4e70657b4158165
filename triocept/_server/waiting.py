"""The bytes of request bodies that were received and are not parsed yet, over all connections of an endpoint."""

from __future__ import annotations

from typing import final

from ..errors import Refusal

__all__ = ["Share", "Waiting"]


@final
class Waiting:
    """All of them.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.bytes = 0
        self.most = most


@final
class Share:
    """Those of one request."""

    __slots__ = ("_bytes", "_waiting")

    def __init__(self, waiting: Waiting) -> None:
        self._bytes = 0
        self._waiting = waiting

    def add(self, count: int) -> None:
        """So many more.

        Raises:
            Refusal: 503, with these it would be too many of all.
        """
        waiting = self._waiting
        if waiting.bytes + count > waiting.most:
            raise Refusal(503, "too many bytes of requests wait here already", retry_after=1)
        waiting.bytes += count
        self._bytes += count

    @property
    def bytes(self) -> int:
        """How many were added. A body that came at once is none: it is small."""
        return self._bytes

    def release(self) -> None:
        """They are parsed, or thrown away."""
        self._waiting.bytes -= self._bytes
        self._bytes = 0
