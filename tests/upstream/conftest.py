"""An endpoint in front of a provider, and an agent that asks it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import trio

from triocept import Endpoint, EndpointLimits, Rollout, Upstream, open_upstream, serve_endpoint

from .provider import GEMINI, MESSAGES, Answer, Provider, body_of, path_of, serve_provider

KEY = "sk-provider-0123456789"


def base_of(url: str, dialect: str) -> str:
    """As the dialect's SDK takes it."""
    return url if dialect in (MESSAGES, GEMINI) else f"{url}/v1"


class Stage:
    """What a test of forwarding has."""

    def __init__(self, provider: Provider, upstream: Upstream, endpoint: Endpoint, rollout: Rollout) -> None:
        self.provider = provider
        self.upstream = upstream
        self.endpoint = endpoint
        self.rollout = rollout

    async def ask(
        self, dialect: str, *, stream: bool = False, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx2.Response:
        """Ask, and read the whole answer."""
        async with self.asking(dialect, stream=stream, headers=headers, **more) as response:
            await response.aread()
            return response

    @asynccontextmanager
    async def asking(
        self,
        dialect: str,
        *,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        query: str = "",
        **more: Any,
    ) -> AsyncIterator[httpx2.Response]:
        """Ask, and see the answer come."""
        url = self.rollout.base_url(dialect) + path_of(dialect, stream=stream) + query
        key = {"authorization": f"Bearer {self.rollout.api_key}"}
        async with httpx2.AsyncClient(
            timeout=None, verify=False
        ) as client:  # plain HTTP; certificates take 20 ms
            body = body_of(dialect, stream=stream, **more)
            async with client.stream("POST", url, json=body, headers={**key, **(headers or {})}) as response:
                yield response


@asynccontextmanager
async def staged(
    answer: Answer,
    dialect: str,
    *,
    handler: Any = None,
    rollout: dict[str, Any] | None = None,
    limits: EndpointLimits | None = None,
    **options: Any,
) -> AsyncIterator[Stage]:
    """A provider, an upstream to it, an endpoint with one rollout that forwards."""
    async with serve_provider(answer) as provider:
        base = base_of(provider.url, dialect)
        async with open_upstream(base, dialect=dialect, **{"api_key": KEY, **options}) as upstream:
            async with serve_endpoint(limits=limits or EndpointLimits()) as endpoint:
                async with endpoint.open_rollout(handler or upstream, **(rollout or {})) as opened:
                    yield Stage(provider, upstream, endpoint, opened)


async def begin_to_read(stage: Stage, dialect: str, *, until: bytes = b"", **more: Any) -> None:
    """An agent that asks for a stream, reads the beginning, and hangs up."""
    url = urlsplit(stage.rollout.base_url(dialect) + path_of(dialect, stream=True))
    body = json.dumps(body_of(dialect, stream=True, **more)).encode()
    head = (
        f"POST {url.path}{'?' if url.query else ''}{url.query} HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {stage.rollout.api_key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", stage.endpoint.port) as stream:
        await stream.send_all(head.encode() + body)
        seen = b""
        while until not in seen or not seen:
            seen += await stream.receive_some()


async def ask_roughly(stage: Stage, agent: str, **more: Any) -> tuple[bytes, bool]:
    """The answer, and whether it came to a clean end."""
    data = b""
    try:
        async with stage.asking(agent, stream=True, **more) as answered:
            async for piece in answered.aiter_raw():
                data += piece
    except httpx2.RemoteProtocolError:
        return data, False
    return data, True
