"""Requests as bytes, and the smallest reader of HTTP/1.1 responses that honours how they end.

It trusts the server: heads in one piece of at most 64 KiB, no trailers, no content coding, no CR LF inside a chunk.
"""

from __future__ import annotations

import re

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_LINES = re.compile(rb"\r\ncontent-type:[ \t]*application/x-ndjson", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class BadResponse(Exception):
    """Anything but a whole response with status 200."""


def make_request(path: str, key: str, body: bytes, *, hold: bool = False, short: bool = False) -> bytes:
    """The bytes of a POST with a bearer key; with `hold` the server answers it when it is told to, not before.

    With `short`, a stream has one increment.
    """
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"authorization: Bearer {key}",
        "user-agent: OpenAI/Python 2.8.1",
        "accept: application/json",
        "content-type: application/json",
        "x-stainless-retry-count: 0",
        f"content-length: {len(body)}",
        *(["x-bench: hold"] if hold else ["x-bench: short"] if short else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class ResponseReader:
    """Reads one response after the other from the bytes of a connection."""

    __slots__ = ("_body_left", "_end", "_head", "_tail", "events")

    def __init__(self) -> None:
        self.events = 0
        """How many events of streams (SSE, or a line each) have come in all."""
        self._end = b"\n\n"
        """What ends an event."""
        self._head = b""
        self._body_left = 0
        self._tail = b""

    def feed(self, data: bytes) -> bool:
        """Take what came; True when it ends a response.

        Raises:
            BadResponse: its status is not 200, or nothing says where it ends.
        """
        if self._tail:
            return self._feed_chunks(data)
        if self._body_left:
            self._body_left -= len(data)
            return self._body_left <= 0
        head, separator, body = (self._head + data).partition(b"\r\n\r\n")
        if not separator:
            self._head = head
            return False
        self._head = b""
        if head[9:12] != b"200":
            raise BadResponse((head + b"\r\n\r\n" + body)[:600].decode("latin-1"))
        if match := _LENGTH.search(head):
            self._body_left = int(match[1]) - len(body)
            self.events += body.count(b"data:")
            return self._body_left <= 0
        if _CHUNKED.search(head) is None:
            raise BadResponse(f"neither a length nor chunks: {head.decode('latin-1')}")
        self._tail = b"\r\n"
        self._end = b"}\n" if _LINES.search(head) else b"\n\n"
        return self._feed_chunks(body)

    def _feed_chunks(self, data: bytes) -> bool:
        window = self._tail + data
        self.events += window.count(self._end) - self._tail.count(self._end)
        if window.endswith(_LAST_CHUNK):
            self._tail = b""
            return True
        self._tail = window[-len(_LAST_CHUNK) + 1 :]
        return False
