"""Agents and models for the tests of cassettes, in any dialect, over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import msgspec
import trio

from tests.asking import PATHS, STREAM_PATHS, bearer
from triocept import (
    Handler,
    Message,
    Request,
    Response,
    Text,
    Upstream,
    UpstreamError,
    open_upstream,
    serve_endpoint,
)
from triocept.dialects import DIALECTS
from triocept.types import Event, assemble


@asynccontextmanager
async def real_model(handler: Handler, dialect: str = "openai_chat") -> AsyncIterator[Upstream]:
    """A model that is asked over a socket, as a provider's is."""
    async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
        async with open_upstream(
            rollout.base_url(dialect), dialect=dialect, api_key=rollout.api_key
        ) as upstream:
            yield upstream


@dataclass(frozen=True)
class Heard:
    """What came back."""

    status: int
    headers: httpx2.Headers
    body: bytes
    response: Response | None
    """None: it is none, or a part of one."""
    events: tuple[Event, ...] = ()
    broke: bool = False
    """Whether the connection was cut."""
    error: str | None = None
    """What was told in the middle of a stream."""


def asks(text: str = "hi", **more: object) -> Request:
    """The smallest request."""
    request = Request(dialect="", model="m", messages=(Message("user", (Text(text),)),))
    return msgspec.structs.replace(request, **more)


async def asking(
    handler: Handler, *requests: Request, dialect: str = "openai_chat", stream: bool = False
) -> list[Heard]:
    """What an agent gets for these, one after the other."""
    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            url = rollout.base_url(dialect).removesuffix("/v1")
            url += (STREAM_PATHS if stream else PATHS)[dialect]
            async with httpx2.AsyncClient(timeout=None, verify=False, headers=bearer(rollout)) as client:
                return [await _asked(client, url, each, dialect, stream=stream) for each in requests]


async def _asked(
    client: httpx2.AsyncClient, url: str, request: Request, dialect: str, *, stream: bool
) -> Heard:
    request = msgspec.structs.replace(request, stream=stream, dialect="")
    document = DIALECTS[dialect].render_request(request)
    body, broke = b"", False
    async with client.stream("POST", url, json=document) as answer:
        try:
            async for data in answer.aiter_bytes():
                body += data
        except httpx2.RemoteProtocolError:
            broke = True
    heard = Heard(answer.status_code, answer.headers, body, None, broke=broke)
    if answer.status_code != 200:
        return heard
    return _read_stream(heard, dialect) if stream else _read_whole(heard, dialect)


def _read_whole(heard: Heard, dialect: str) -> Heard:
    response = DIALECTS[dialect].parse_response(msgspec.json.decode(heard.body))
    return Heard(heard.status, heard.headers, heard.body, response)


def _read_stream(heard: Heard, dialect: str) -> Heard:
    parser = DIALECTS[dialect].stream_parser()
    events: list[Event] = []
    error = None
    try:
        for place in range(len(heard.body)):
            events += parser.feed(heard.body[place : place + 1])
        if not heard.broke:
            events += parser.close()
    except UpstreamError as exc:
        error = exc.message
    response = None if heard.broke or error is not None else assemble(events)
    return Heard(heard.status, heard.headers, heard.body, response, tuple(events), heard.broke, error)


def texts(heard: list[Heard]) -> list[str]:
    """What was said in answers that are whole."""
    found = []
    for each in heard:
        assert each.response is not None, each
        found.append(each.response.text)
    return found
