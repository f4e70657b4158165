"""Providers for tests: real sockets, every byte by hand, so that they can be as bad as real ones are."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

from triocept import Request, Response, Text, Usage
from triocept.dialects import DIALECTS
from triocept.types import Event, PartDelta, events_of

CHAT, COMPLETIONS, RESPONSES = "openai_chat", "openai_completions", "openai_responses"
MESSAGES, GEMINI, OLLAMA = "anthropic_messages", "gemini", "ollama"
ALL = tuple(DIALECTS)
USAGE = Usage(input_tokens=11, output_tokens=7)

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "asked", "messages": [{"role": "user", "content": "hi"}]},
    COMPLETIONS: {"model": "asked", "prompt": "hi"},
    RESPONSES: {"model": "asked", "input": "hi"},
    MESSAGES: {"model": "asked", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    OLLAMA: {"model": "asked", "messages": [{"role": "user", "content": "hi"}]},
}
"""The smallest request of each dialect."""


def body_of(dialect: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    body = {**BODIES[dialect], **more}
    if dialect == OLLAMA:
        return {**body, "stream": stream}  # it is on where nothing is said
    return {**body, "stream": True} if stream and dialect != GEMINI else body


def path_of(dialect: str, *, stream: bool = False) -> str:
    """Behind a base URL as the SDK takes it."""
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return {
        CHAT: "/chat/completions",
        COMPLETIONS: "/completions",
        RESPONSES: "/responses",
        MESSAGES: "/v1/messages",
        GEMINI: f"/v1beta/models/asked:{verb}",
        OLLAMA: "/api/chat",
    }[dialect]


def wire_stream(dialect: str, response: Response | None = None) -> list[bytes]:
    """A stream as a provider of this dialect sends it: each event of the answer in a piece of its own."""
    response = response or Response(
        (Text("Hello, world."),), id="id-1", model="m-1", dialect=dialect, usage=USAGE
    )
    renderer = DIALECTS[dialect].stream_renderer(Request(dialect=dialect, model="m-1", messages=()))
    return [data for event in split(events_of(response)) if (data := renderer.render(event))]


def wire_whole(dialect: str, response: Response | None = None) -> bytes:
    response = response or Response(
        (Text("Hello, world."),), id="id-1", model="m-1", dialect=dialect, usage=USAGE
    )
    request = Request(dialect=dialect, model="m-1", messages=())
    return json.dumps(DIALECTS[dialect].render_response(response, request), indent=1).encode()


def split(events: Iterable[Event]) -> Iterable[Event]:
    """The events, deltas in pieces of at most three characters."""
    for event in events:
        if isinstance(event, PartDelta):
            for start in range(0, len(event.text), 3):
                yield PartDelta(event.index, event.text[start : start + 3])
        else:
            yield event


@dataclass(frozen=True)
class Asked:
    """One request that a provider got."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


Answer: TypeAlias = Callable[[Asked, trio.SocketStream], Awaitable[None]]


@dataclass
class Provider:
    url: str
    asked: list[Asked] = field(default_factory=list)
    open: int = 0
    """How many connections there are now."""
    connections: int = 0
    """How many there have been."""


@asynccontextmanager
async def serve_provider(answer: Answer) -> AsyncIterator[Provider]:
    """A provider that gives each request to `answer`, one after the other on each connection."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    provider = Provider(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")

    async def serve(stream: trio.SocketStream) -> None:
        provider.open += 1
        provider.connections += 1
        try:
            buffer = b""
            while (read := await read_request(stream, buffer)) is not None:
                asked, buffer = read
                provider.asked.append(asked)
                await answer(asked, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            provider.open -= 1
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield provider
        nursery.cancel_scope.cancel()


async def read_request(stream: trio.SocketStream, buffer: bytes) -> tuple[Asked, bytes] | None:
    while b"\r\n\r\n" not in buffer:
        data = await stream.receive_some()
        if not data:
            return None
        buffer += data
    head, _, buffer = buffer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    while len(buffer) < length:
        data = await stream.receive_some()
        if not data:
            return None
        buffer += data
    return Asked(first.split(" ")[1], headers, buffer[:length]), buffer[length:]


def head(status: int = 200, *, kind: str = "text/event-stream", more: str = "") -> bytes:
    """The head of a chunked answer."""
    return (
        f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}transfer-encoding: chunked\r\n\r\n"
    ).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


END = b"0\r\n\r\n"


def whole(
    body: bytes,
    status: int = 200,
    *,
    kind: str = "application/json",
    more: str = "",
    length: int | None = None,
) -> bytes:
    """A whole answer, as bytes; `length` may lie."""
    size = len(body) if length is None else length
    text = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}content-length: {size}\r\n\r\n"
    return text.encode() + body


def says(data: bytes) -> Answer:
    """A provider that sends these bytes."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(data)

    return answer


def says_and_closes(data: bytes) -> Answer:
    """The same, and then the connection ends."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        await stream.aclose()

    return answer


def streams(dialect: str, response: Response | None = None, *, more: str = "") -> Answer:
    """A provider that streams this answer."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head(kind=DIALECTS[dialect].stream_types[0], more=more))
        for piece in wire_stream(dialect, response):
            await stream.send_all(chunk(piece))
        await stream.send_all(END)

    return answer


def is_stream(asked: Asked) -> bool:
    """Whether a request asks for a stream."""
    return "streamGenerateContent" in asked.target or bool(asked.document.get("stream"))


def answers(dialect: str, response: Response | None = None, *, more: str = "") -> Answer:
    """A good provider: whole or streamed, as it is asked."""
    as_stream = streams(dialect, response, more=more)
    as_whole = says(whole(wire_whole(dialect, response), more=more))

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await (as_stream if is_stream(asked) else as_whole)(asked, stream)

    return answer
