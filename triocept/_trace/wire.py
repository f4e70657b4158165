"""Record the wire view of a call, which is its HTTP traffic (request and answer), with `record_wire=True`.

Rules:

1. `[redacted]` replaces each key in a header, and the rollout's key in the URL.
2. The log contains at most the first 8 MiB of each body. The log does not contain compressed request bodies. The
   recorded size is always the size of the whole body.
3. The turn is recorded before the last part of its answer is sent. So this last part is rendered in advance, and
   recorded with the turn.
4. For a call over a websocket, the log contains the method, URL and headers of the upgrade request. The body is the
   frame with the call, and the answer has a line for each frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

MOST = 8 * 1024 * 1024
"""Maximum bytes of a body in the log. No known agent sends a larger body."""


class WireView(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The HTTP traffic of a call. For a call over a websocket, the status is 101, and the method is `GET`."""

    method: str
    url: str
    """Path and query of the request."""
    headers: dict[str, str]
    """Headers that the agent sent, with names in lower case. In their values, `[redacted]` replaces each key."""
    body: bytes
    """Body of the request, as received; for a websocket, the frame with the call. Empty if the body was compressed, or
    if the program has a `Redaction`."""
    body_size: int
    """Number of bytes of the whole request body. `body` has fewer bytes if the body was cut or left out."""
    status: int | None = None
    """Status of the answer; None if no status was sent when the turn was recorded."""
    answer_headers: dict[str, str] = {}
    answer: bytes = b""
    """Body of the answer, including the last part, which is sent after the recording. For a websocket, the frames, one
    on each line."""
    answer_size: int = 0


class WireLog:
    """The log of one call's HTTP traffic, with the parts that were recorded so far. `view` makes a `WireView` from it.

    Args:
        method, url, headers: parts of the request, without keys.
    """

    def __init__(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers: dict[str, str] = dict(headers)
        self.body = b""
        self.closed: bool = False
        """True if the whole answer was recorded in advance. Bytes that are sent after that are not recorded again."""
        self._status: int | None = None
        self._answer_headers: dict[str, str] = {}
        self._answer: list[bytes] = []
        self._size = 0

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        if not self.closed:
            self._status, self._answer_headers = status, dict(headers)

    def take(self, pieces: Iterable[bytes]) -> None:
        for data in () if self.closed else pieces:
            if self._size < MOST:
                self._answer.append(data[: MOST - self._size])
            self._size += len(data)

    def view(self) -> WireView:
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
