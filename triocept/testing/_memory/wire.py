"""What an agent in memory asks, as its dialect has it on the wire; and how it reads an answer: by its dialect's own
parsers, as a client of a real provider would.

Rules:

1. The head says whether the answer is a stream, not what was asked for.
2. A stream that ends without its terminal event is no answer; nor is one that is broken off.
3. What is no answer is an `UpstreamError`, with the status and the words that came.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from ..._canonical.content import Json
from ..._canonical.events import Event, assemble
from ..._canonical.request import Request
from ..._canonical.response import Response
from ..._rollout.asking import request_of
from ..._server.transport import Head
from ..._upstream.failures import Reader
from ...dialects import Dialect
from ...errors import DialectError, UpstreamError, UpstreamTruncated
from .call import MemoryCall


def written(
    given: object, dialect: Dialect, model: str, *, stream: bool | None
) -> tuple[Request, dict[str, Json]]:
    """What stands in the path of a call, and the document that is sent.

    Args:
        given: a text, messages, a `Request`, or the document itself, which goes as it is.
        dialect: spoken by the agent.
        model: asked for where what was given names none.
        stream: whether the answer is to be a stream; None: as was given.

    Raises:
        TypeError, ValueError: nothing that can be asked.
        DialectError: the dialect has no words for it.
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
    request: Request, dialect: Dialect, rollout_id: str, api_key: str, headers: Mapping[str, str]
) -> Head:
    """The head of a call.

    Args:
        request: what its path says.
        dialect: spoken by the agent.
        rollout_id, api_key: of whom it asks.
        headers: of the agent's own, which win.
    """
    path, _, query = dialect.path(request).partition("?")
    usual = {"content-type": "application/json", **dialect.default_headers, **dialect.key_headers(api_key)}
    own = {name.lower(): value for name, value in headers.items()}
    return Head(
        method="POST",
        path=f"/rollout/{rollout_id}{dialect.base_path}{unquote(path)}",
        query=query,
        headers={name.lower(): value for name, value in usual.items()} | own,
    )


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
