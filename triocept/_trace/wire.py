"""The wire view of a call, recorded with `record_wire=True`.

Rules:

1. Headers that contain a key hold `[redacted]`, and so does the rollout's key in an address.
2. The first 8 MiB of each body are kept, but nothing of a compressed request body; the size is that of the whole body.
3. The turn is recorded before the end of its answer is sent. So the unsent rest is encoded beforehand, and kept.
4. For a call over a websocket, the upgrade is kept, its frame as the body, and the frames of its answer, each on a
   line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

MOST = 8 * 1024 * 1024
"""Maximum bytes of a body that are kept: more than any known agent sends."""


class WireView(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A call as sent over the wire: by HTTP, or over a websocket (its status is then 101, and its method `GET`)."""

    method: str
    url: str
    """Path and query."""
    headers: dict[str, str]
    """Headers of the agent, names in lower case; headers that contain a key hold `[redacted]`."""
    body: bytes
    """Body as received; for a websocket, the frame. Empty if it was compressed, or if a `Redaction` removes texts from
    the trace."""
    body_size: int
    """Bytes of the whole body; more than in `body` if that is cut, or omitted."""
    status: int | None = None
    """Status of the answer; None if no status was sent when the turn was recorded."""
    answer_headers: dict[str, str] = {}
    answer: bytes = b""
    """Body of the answer: the part sent, and the part about to be sent. For a websocket, its frames, one a line."""
    answer_size: int = 0


class WireLog:
    """Log of a call so far.

    Args:
        method, url, headers: of the request, without keys.
    """

    def __init__(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers: dict[str, str] = dict(headers)
        self.body = b""
        self.closed: bool = False
        """True if the whole answer was taken: later bytes are already included."""
        self._status: int | None = None
        self._answer_headers: dict[str, str] = {}
        self._answer: list[bytes] = []
        self._size = 0

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Record the head of the answer."""
        if not self.closed:
            self._status, self._answer_headers = status, dict(headers)

    def take(self, pieces: Iterable[bytes]) -> None:
        """Record more of the answer's body."""
        for data in () if self.closed else pieces:
            if self._size < MOST:
                self._answer.append(data[: MOST - self._size])
            self._size += len(data)

    def view(self) -> WireView:
        """Return the view of the call so far."""
        opaque = "content-encoding" in self.headers  # a key in it would not be recognized
        return WireView(
            method=self.method,
            url=self.url,
            headers=self.headers,
            body=b"" if opaque else self.body[:MOST],
            body_size=len(self.body),
            status=self._status,
            answer_headers=self._answer_headers,
            answer=b"".join(self._answer),
            answer_size=self._size,
        )
