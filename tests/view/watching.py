"""A viewer over raw HTTP: the requests that the page makes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import trio

import triocept

TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]


class Viewer:
    """The requests of one page."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self.client = client
        self.base, _, self.key = url.partition("#key=")
        self.headers = {"authorization": f"Bearer {self.key}"}

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.client.get(f"{self.base}api/{path}", headers=self.headers | headers)

    async def json(self, path: str) -> Any:
        response = await self.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def decide(self, **body: Any) -> httpx2.Response:
        return await self.client.post(f"{self.base}api/decide", headers=self.headers, json=body)

    @asynccontextmanager
    async def stream(self, **headers: str) -> AsyncIterator[Events]:
        """Open the stream."""
        port = int(self.base.split(":")[2].split("/")[0])
        async with await trio.open_tcp_stream("127.0.0.1", port) as socket:
            lines = {"host": f"127.0.0.1:{port}"} | self.headers | headers
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            await socket.send_all(f"GET /view/api/stream HTTP/1.1\r\n{head}\r\n".encode())
            events = Events(socket)
            assert b" 200 " in await events.line()
            while await events.line():
                pass
            yield events


class Events:
    """The events of a stream over a bare socket, chunked as HTTP/1.1 sends it."""

    def __init__(self, socket: trio.SocketStream) -> None:
        self._socket = socket
        self._data = bytearray()
        self._body = bytearray()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> tuple[int, str, Any]:
        """Return the next event, as (id, name, data)."""
        while True:
            while (end := self._body.find(b"\n\n")) < 0:
                if not (size := int(await self.line(), 16)):
                    raise StopAsyncIteration
                while len(self._data) < size + 2:
                    await self._more()
                self._body += self._data[:size]
                del self._data[: size + 2]
            fields = dict(
                line.split(": ", 1) for line in self._body[:end].decode().split("\n") if ": " in line
            )
            del self._body[: end + 2]
            if "event" in fields:
                return int(fields["id"]), fields["event"], json.loads(fields["data"])

    async def until(self, wanted: str) -> Any:
        """Return the data of the next event with this name."""
        return (await self.seen(wanted))[1]

    async def seen(self, wanted: str) -> tuple[int, Any]:
        """Return number and data of the next event with this name."""
        async for number, name, data in self:
            if name == wanted:
                return number, data
        raise AssertionError(f"the stream ended before {wanted}")

    async def line(self) -> bytes:
        while (end := self._data.find(b"\r\n")) < 0:
            await self._more()
        found = bytes(self._data[:end])
        del self._data[: end + 2]
        return found

    async def _more(self) -> None:
        piece = await self._socket.receive_some(65536)
        if not piece:
            raise AssertionError("the connection ended in mid-stream")
        self._data += piece


class Agent:
    """An agent that sends chat completions to a rollout."""

    def __init__(self, client: httpx2.AsyncClient, rollout: triocept.Rollout) -> None:
        self.client = client
        self.url = f"{rollout.base_url('openai_chat')}/chat/completions"
        self.headers = {"authorization": f"Bearer {rollout.api_key}"}
        self.messages: list[dict[str, Any]] = []
        self.status: int | None = None

    async def say(self, text: str, *, stream: bool = False) -> Any:
        self.messages.append({"role": "user", "content": text})
        body = {"model": "m", "messages": self.messages, "stream": stream, "tools": TOOLS}
        response = await self.client.post(self.url, headers=self.headers, json=body, timeout=30)
        self.status = response.status_code
        if stream or response.status_code != 200:
            return response.text
        answer = response.json()["choices"][0]["message"]
        self.messages.append(answer)
        return answer
