"""What a program notes while it runs, for the look at the end."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio

from triocept import Exchange, Refusal, Rollout, Trace

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "anthropic_messages": "/v1/messages",
    "openai_responses": "/v1/responses",
}
LAST = (b"[DONE]", b"message_stop", b"response.completed")
"""One of them is in a streamed answer that is whole."""


class Scene:
    """One run of a program, whose recorders write into the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.traces: list[Trace] = []
        """Of the rollouts whose bodies began."""
        self.handled: list[tuple[str, str]] = []
        """Rollout and exchange of each call that reached a handler."""
        self.answered: list[tuple[str, str]] = []
        """Rollout and text of each call whose client has a whole answer."""

    @property
    def file(self) -> Path:
        """The file of a program that records into one."""
        return self.folder / "traces.jsonl"

    @asynccontextmanager
    async def opened(self, rollout: AbstractAsyncContextManager[Rollout]) -> AsyncIterator[Rollout]:
        """Open a rollout, and note its trace."""
        async with rollout as it:
            self.traces.append(it.trace)
            yield it

    async def answer(self, exchange: Exchange) -> None:
        """Answer in the way that the call's text names."""
        self.handled.append((exchange.rollout.id, exchange.id))
        text = exchange.request.messages[-1].text
        if "stream" in text:
            async with exchange.open_stream() as stream:
                await stream.send("<<")
                await trio.lowlevel.checkpoint()
                await stream.send(f"{text}>>")
        elif "refuse" in text:
            raise Refusal(418, "no")
        elif "fault" in text:
            await trio.lowlevel.checkpoint()
            raise ValueError("a fault of the handler")
        else:
            await exchange.respond(f"<<{text}>>")

    async def call(self, rollout: Rollout, text: str, dialect: str = "openai_chat") -> None:
        """Make one call over a connection of its own. `dialect`: any of `PATHS`."""
        url = rollout.base_url("openai_chat")
        port = int(url.rpartition(":")[2].partition("/")[0])
        stream = "stream" in text
        body = json.dumps(_document(dialect, text) | {"model": "m", "stream": stream}).encode()
        head = (
            f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {rollout.api_key}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        received = b""
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
                await connection.send_all(head.encode() + body)
                async for data in connection:
                    received += data
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return
        status, whole = received[9:12], f"<<{text}>>".encode() in received
        if status == b"200" and (any(last in received for last in LAST) if stream else whole):
            self.answered.append((rollout.id, text))


def _document(dialect: str, text: str) -> dict[str, object]:
    if dialect == "openai_responses":
        return {"input": text}
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 9}
