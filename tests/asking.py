"""Agents for tests: they ask an endpoint something over a real socket."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import trio

from triocept import Exchange, Rollout

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
PATHS = {
    "openai_chat": CHAT,
    "anthropic_messages": MESSAGES,
    "openai_responses": "/v1/responses",
    "openai_completions": "/v1/completions",
    "gemini": "/v1beta/models/m:generateContent",
    "ollama": "/api/chat",
}
STREAM_PATHS = PATHS | {"gemini": "/v1beta/models/m:streamGenerateContent?alt=sse"}


def document(dialect: str, text: str = "hi", *, stream: bool = False) -> dict[str, Any]:
    """The smallest document of a call in any dialect (Gemini says in the path whether it is a stream)."""
    match dialect:
        case "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        case "openai_responses":
            return {"model": "m", "input": text, "stream": stream}
        case "openai_completions":
            return {"model": "m", "prompt": text, "stream": stream}
        case _:
            return ask_body(text, stream=stream)


def ask_body(text: str = "hi", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """A request body that chat completions and messages both read."""
    return {
        "model": "m",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
        **more,
    }


def bearer(rollout: Rollout) -> dict[str, str]:
    return {"authorization": f"Bearer {rollout.api_key}"}


def url_of(rollout: Rollout, dialect: str = "openai_chat") -> str:
    return rollout.base_url(dialect).removesuffix("/v1") + PATHS[dialect]


async def ask(
    rollout: Rollout, text: str = "hi", *, dialect: str = "openai_chat", stream: bool = False, **more: Any
) -> httpx2.Response:
    """Ask, and read the whole answer. It is plain HTTP: no certificates are read for it."""
    async with httpx2.AsyncClient(timeout=None, verify=False) as client:
        return await client.post(
            url_of(rollout, dialect), json=ask_body(text, stream=stream, **more), headers=bearer(rollout)
        )


def raw_request(rollout: Rollout, body: bytes, *, path: str | None = None, more: str = "") -> bytes:
    """A POST as bytes."""
    path = path or f"/rollout/{rollout.id}{CHAT}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {rollout.api_key}\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def connected(port: int, host: str = "127.0.0.1") -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream(host, port) as stream:
        yield stream


async def read_to_end(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    try:
        async for piece in stream:
            data += piece
    except trio.BrokenResourceError:
        pass
    return bytes(data)


async def read_answer(stream: trio.SocketStream) -> bytes:
    """One whole answer, which has a Content-Length. Its connection may go on."""
    data = b""
    while True:
        head, gap, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head.lower())
        if gap and length is not None and len(body) >= int(length[1]):
            return data
        piece = await stream.receive_some()
        assert piece, f"ended within an answer: {data[-500:]!r}"
        data += piece


async def echo(exchange: Exchange) -> None:
    """A handler: says what it was asked."""
    await exchange.respond(exchange.request.last.text)
