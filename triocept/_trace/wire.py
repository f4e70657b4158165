"""A call as it went over the wire: what a rollout keeps of each with `record_wire=True`.

Rules:

1. Headers that hold a key say `[redacted]`, and so does the rollout's key wherever it stands in an address.
2. Of each body the first 8 MiB are kept, and nothing of a request's that came compressed; its size is that of all of
   it.
3. The turn is recorded before the end of its answer leaves. So what is still to leave is written beforehand, and kept.
4. Of a call over a websocket the upgrade is kept, its frame as the body, and the frames of its answer, each on a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

MOST = 8 * 1024 * 1024
"""Bytes of a body that are kept: more than any agent that is known sends."""


class WireView(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A call as it went over the wire: by HTTP, or over a websocket (its status is then 101, and its method `GET`)."""

    method: str
    url: str
    """Path and query."""
    headers: dict[str, str]
    """The agent's, names in lower case; those that hold a key say `[redacted]`."""
    body: bytes
    """As it came, of a websocket the frame; empty where it came compressed, or where a `Redaction` keeps texts out of
    the trace."""
    body_size: int
    """Bytes; more than `body` has where that is cut, or left out."""
    status: int | None = None
    """Of the answer; None: the connection had got none when the turn was recorded."""
    answer_headers: dict[str, str] = {}
    answer: bytes = b""
    """The body of the answer: what had left, and what was about to leave. Of a websocket its frames, a line each."""
    answer_size: int = 0


class WireLog:
    """What is known of a call so far.

    Args:
        method, url, headers: of the request, without keys.
    """

    def __init__(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers: dict[str, str] = dict(headers)
        self.body = b""
        self.closed: bool = False
        """Whether all that is to leave was taken: what leaves from here on is known."""
        self._status: int | None = None
        self._answer_headers: dict[str, str] = {}
        self._answer: list[bytes] = []
        self._size = 0

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the answer."""
        if not self.closed:
            self._status, self._answer_headers = status, dict(headers)

    def take(self, pieces: Iterable[bytes]) -> None:
        """More of its body."""
        for data in () if self.closed else pieces:
            if self._size < MOST:
                self._answer.append(data[: MOST - self._size])
            self._size += len(data)

    def view(self) -> WireView:
        """It, as far as it is known."""
        opaque = "content-encoding" in self.headers  # nobody would see a key in it
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
