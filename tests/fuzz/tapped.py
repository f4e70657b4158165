"""A streamed body as the tap of a provider's connection reads it, without a connection."""

from collections.abc import Coroutine
from typing import Any

import httpcore2

from triocept._upstream.tap import TappedBody, _Tap

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection that gives these pieces, and then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in reversed(pieces) if piece]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Nobody reads it."""

    async def aclose(self) -> None:
        """Nothing."""

    def get_extra_info(self, info: str) -> Any:
        return self if info == "ssl_object" else None  # so it is read by nobody but the tap


def tapped(pieces: list[bytes], *, go_on: bool) -> tuple[Any, str]:
    """Read a body that comes in these pieces, the first with its head; return it, or why it cannot be read."""
    head = (GO_ON if go_on else b"") + HEAD
    width = max(1, len(pieces[0])) if pieces else 1
    at = max(0, len(head) - width)
    parts = [head[start : min(start + width, at)] for start in range(0, at, width)]
    first = head[at:] + (pieces[0] if pieces else b"")
    return _run(_read(_Tap(_Stream([*parts, first, *pieces[1:]])), len(head)))


async def _read(tap: _Tap, length: int) -> tuple[Any, str]:
    await tap.write(b"")
    seen = b""
    while len(seen) < length:
        if not (data := await tap.read(65536)):
            return None, "no head"
        seen += data
    if len(seen) > length:
        return None, "the parser of heads was given some of the body"
    body = tap.take_body()
    if body is None:
        return None, "no body behind its head"
    return await _read_body(body)


async def _read_body(body: TappedBody) -> tuple[Any, str]:
    data = b""
    try:
        while piece := await body.receive():
            data += piece
    except httpcore2.RemoteProtocolError as exc:
        return (data, "cut" if "before the body" in str(exc) else "no chunks"), ""
    return (data, ""), ""


def _run(steps: Coroutine[Any, Any, tuple[Any, str]]) -> tuple[Any, str]:
    """Run what waits for nothing."""
    try:
        steps.send(None)
    except StopIteration as done:
        result: tuple[Any, str] = done.value
        return result
    raise AssertionError("it waits")
