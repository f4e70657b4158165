"""How an agent in memory reads an answer: by its dialect's own parsers, as a client of a real provider would.

Rules:

1. The head says whether the answer is a stream, not what was asked for.
2. A stream that ends without its terminal event is no answer; nor is one that is broken off.
3. What is no answer is an `UpstreamError`, with the status and the words that came.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable

from ..._canonical.events import Event, assemble
from ..._canonical.response import Response
from ..._upstream.failures import Reader
from ...dialects import Dialect
from ...errors import DialectError, UpstreamError, UpstreamTruncated
from .call import MemoryCall

__all__ = ["events_in", "response_in"]


async def response_in(call: MemoryCall, dialect: Dialect) -> Response:
    """The whole answer.

    Args:
        call: the call that waits for it.
        dialect: in which it is.

    Raises:
        UpstreamError: it was refused, or is none.
        ExchangeAbandoned: the agent has hung up.
        TimeoutError: it was silent for too long, and the agent has hung up.
    """
    await call.wait_head()
    reader = Reader(dialect, None)
    if call.status == 200 and call.is_stream:
        events = [event async for event in events_in(call, dialect)]
        try:
            return assemble(events)
        except DialectError as exc:
            raise reader.unreadable(exc, call.body, call.headers) from exc
    body = _unpacked(call)(await call.read())
    if call.status != 200:
        raise reader.failure(call.status or 502, body, call.headers)
    return reader.response(body, call.headers)


async def events_in(call: MemoryCall, dialect: Dialect) -> AsyncIterator[Event]:
    """The increments of a streamed answer, as they come; errors as of `response_in`."""
    parser, reader, unpacked = dialect.stream_parser(), Reader(dialect, None), _unpacked(call)
    try:
        while (data := await call.receive()) is not None:
            for event in parser.feed(unpacked(data)):
                yield event
        if call.broken and not parser.ending:
            raise UpstreamTruncated("the answer was broken off")
        for event in parser.close():
            yield event
    except DialectError as exc:
        raise reader.unreadable(exc, call.body, call.headers) from exc
    except UpstreamTruncated:
        raise
    except UpstreamError as exc:
        raise reader.told(exc, b"", call.headers) from None


def _unpacked(call: MemoryCall) -> Callable[[bytes], bytes]:
    """What undoes the coding of a body, piece by piece; UpstreamError where it is in none, or another."""
    coding = call.headers.get("content-encoding", "identity").lower()
    if coding == "identity":
        return lambda data: data
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip and deflate, whichever it is

    def unpacked(data: bytes) -> bytes:
        try:
            return decoder.decompress(data)
        except zlib.error as exc:
            raise UpstreamError(f"the answer is not in {coding!r}: {exc}", headers=call.headers) from exc

    return unpacked
