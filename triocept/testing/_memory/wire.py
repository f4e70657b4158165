"""Write the requests of an agent in memory, and parse the answers that it gets.

The agent writes requests in its dialect. The agent parses answers with the same code that parses the answers of real
providers.

Rules:

1. If the answer has the content type of a stream, it is read as a stream, even if the agent did not request a stream.
2. A stream that ends or breaks off before its terminal event is invalid.
3. For an invalid answer, `UpstreamError` is raised, with the received status and text.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import h11
import msgspec

from ..._canonical.content import Json
from ..._canonical.events import Event, assemble
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._rollout.asking import request_of
from ..._rollout.rollout import Rollout
from ..._upstream.failures import Reader
from ...dialects import Dialect
from ...errors import DialectError, UpstreamError, UpstreamTruncated
from .call import MemoryCall


def written(
    given: object, dialect: Dialect, model: str, *, stream: bool | None
) -> tuple[Request, dict[str, Json]]:
    """Return a `Request`, from which the URL of the call is derived, and the JSON document to send as the body.

    Args:
        given: a text, messages, a `Request`, or a document, which is sent unchanged.
        dialect: dialect of the agent.
        model: model name that is used if `given` does not name a model.
        stream: True to request a stream. None means the value that `given` contains.
    """
    if isinstance(given, Mapping):
        document: dict[str, Json] = dict(given)
        said = document.get("stream")
        if stream is not None and "stream" in document:
            document["stream"] = stream
        request = Request(
            dialect=dialect.name,
            model=str(document.get("model") or model),
            messages=(),
            stream=stream if stream is not None else said is True,
        )
        return request, document
    request = request_of(given, model)
    if not isinstance(given, Request):
        request = msgspec.structs.replace(request, dialect=dialect.name)
    if stream is not None:
        request = msgspec.structs.replace(request, stream=stream)
    rendered: Any = dialect.render_request(request)
    return request, rendered


def head_of(
    request: Request, dialect: Dialect, rollout: Rollout, length: int, headers: Mapping[str, str]
) -> h11.Request:
    """Return the head of an HTTP request with a body of `length` bytes. `headers` override default headers.

    Raise ValueError if a header cannot be sent.
    """
    usual = {
        "host": "memory",
        "content-type": "application/json",
        "content-length": str(length),
        **dialect.default_headers,
        **dialect.key_headers(rollout.api_key),
    }
    lower = {name.lower().encode(): value.encode() for name, value in [*usual.items(), *headers.items()]}
    target = f"/rollout/{rollout.id}{dialect.base_path}{dialect.path(request)}"
    try:
        return h11.Request(method="POST", target=target, headers=list(lower.items()))
    except h11.LocalProtocolError as exc:
        raise ValueError(f"the head of the call cannot be sent: {exc}") from exc


async def response_in(call: MemoryCall, dialect: Dialect) -> Response:
    """Wait for the whole answer of a call, and return it parsed.

    Raises:
        UpstreamError: the call was refused, or the answer is invalid.
        ExchangeAbandoned: the agent has disconnected.
        TimeoutError: no byte arrived in time, so the agent has disconnected.
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
    """Yield the increments of a streamed answer when they arrive. Raise the same errors as `response_in`."""
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
        raise reader.own_error(exc, b"", call.headers) from None


def _unpacked(call: MemoryCall) -> Callable[[bytes], bytes]:
    """Return a function that decompresses an answer piece by piece.

    The function raises UpstreamError if it cannot decompress a piece.
    """
    coding = call.headers.get("content-encoding", "identity").lower()
    if coding == "identity":
        return lambda data: data
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip and deflate

    def unpacked(data: bytes) -> bytes:
        try:
            return decoder.decompress(data)
        except zlib.error as exc:
            raise UpstreamError(
                f"the answer cannot be decoded as {coding!r}: {exc}", headers=call.headers
            ) from exc

    return unpacked
