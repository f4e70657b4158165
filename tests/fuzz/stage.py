"""An endpoint under a clock that jumps, its plain clients, and the look at what is left.

A client is a socket and no task: it sends, waits until every task of the program waits, and reads what has come. So it
knows that nothing more will come, and the same input does the same again.
"""

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import trio
import trio.testing

from tests.ways import OWN, way
from triocept import Endpoint, Exchange, Refusal, Rollout, serve_endpoint

from .kind import Check, Input, expect
from .left import LogWatch, descriptors, held_bytes, same_process, tasks, watched_log

KEY = "sk-triocept-" + "K" * 43
"""Stands for the rollout's key, which is as long."""
VISITED = ("/v1/models", "/health", "/nowhere", "/v1/messages", "/tools")
"""What an honest agent asks for before it is silent."""
SILENCE = 61.0
"""Seconds: more than `EndpointLimits.keyless_seconds`."""
AFTER = 10.0
"""Seconds, by the clock that jumps, that a connection has to end in when its client has left."""


async def settle() -> None:
    """Wait until every task waits, and no socket has anything for one of them."""
    await trio.testing.wait_all_tasks_blocked()
    while trio.to_thread.current_default_thread_limiter().borrowed_tokens:  # threads know no clock that jumps
        await trio.testing.wait_all_tasks_blocked(0.002)


class Client:
    """A socket that speaks to an endpoint; a context, at whose end it is closed, however that comes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # or small segments wait for an ACK
        self._socket.setblocking(False)
        self.got = b""
        self.ended = False
        """Whether the endpoint has said that nothing more comes."""
        self.broken = False
        """Whether the connection was broken off: what it has sent last may be lost."""
        self.unsent = 0
        """Bytes that the endpoint did not take."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    async def send(self, data: bytes) -> None:
        """Send all of it, and wait for what comes of it."""
        await self.put(data)
        await self.settle()

    async def put(self, data: bytes) -> None:
        """Send all of it, if it is taken."""
        left, stalled = memoryview(data), 0
        while left and not self.broken and stalled < 3:
            try:
                left = left[self._socket.send(left) :]
                stalled = 0
            except BlockingIOError:
                stalled += 1
                await settle()
                self.take()
            except OSError:
                self.broken = True
        self.unsent += len(left)

    async def settle(self) -> None:
        """Until nothing more happens."""
        await settle()
        while self.take():
            await settle()

    def take(self) -> bool:
        """Read what is there. Whether that was anything."""
        before = len(self.got)
        while not self.ended and not self.broken:
            try:
                data = self._socket.recv(1 << 20)
            except BlockingIOError:
                break
            except OSError:
                self.broken = True
                break
            self.got += data
            self.ended = not data
        return len(self.got) > before

    @property
    def fate(self) -> str:
        return "broken" if self.broken else "ended" if self.ended else "open"

    def end(self) -> None:
        """Send no more."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class Stage:
    """One endpoint, a rollout for hostile inputs, and one that is honest."""

    def __init__(self, endpoint: Endpoint, log: LogWatch) -> None:
        self.endpoint = endpoint
        self.port = endpoint.port
        self.log = log
        self.exchanges: list[Any] = []
        """What was asked, of the input that is being tried."""
        self.go = trio.Event()
        """Set, those go on that have been told to wait."""
        self.rollout: Rollout
        self.honest: Rollout
        self._handling = 0
        self._tasks = 0
        self._open = 0
        self._honest_calls = 0
        self._looks = 0

    async def handle(self, exchange: Exchange) -> None:
        """Answer as the text of the request says."""
        self.exchanges.append(exchange.raw)
        self._handling += 1
        try:
            await self._answer(
                exchange, exchange.request.last.text if exchange.request.last is not None else ""
            )
        finally:
            self._handling -= 1

    async def _answer(self, exchange: Exchange, text: str) -> None:
        if "refuse" in text:
            raise Refusal(429, text[:100])
        if "late" in text:
            await trio.sleep(3)
        if "wait" in text:
            await self.go.wait()
        if "stream" not in text and "fail" not in text:
            await exchange.respond(text[:100] + ("z" * 200_000 if "big" in text else ""))
            return
        async with exchange.open_stream() as stream:
            await stream.send(text[:100])
            if "hold" in text:
                await self.go.wait()
            if "fail" in text:
                raise Refusal(500, "fail")
            await stream.send("z" * 200_000 if "big" in text else "z")

    def with_key(self, text: str) -> str:
        """The bytes of an input, with the rollout's own key."""
        return text.replace(KEY, self.rollout.api_key)

    def connect(self) -> Client:
        return Client(self.port)

    async def begin(self) -> None:
        """The state that every input must leave behind."""
        await self.ask_honestly()
        self._tasks, self._open = tasks(), descriptors()
        self.exchanges.clear()

    async def ask_honestly(self, before: str = "") -> None:
        """Check that a call of an honest agent is answered right; with `before`, it visits that path first."""
        self._honest_calls += 1
        said = f"honest {self._honest_calls}"
        body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % said.encode()
        fields = f"HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self.honest.api_key}\r\n"
        with self.connect() as client:
            if before:
                await client.send(f"GET {before} {fields}\r\n".encode())
                await trio.sleep(SILENCE)
                client.got = b""
            head = f"POST /v1/chat/completions {fields}content-length: {len(body)}\r\n\r\n"
            await client.send(head.encode() + body)
        await settle()
        answered = client.got.startswith(b"HTTP/1.1 200 ") and f'"{said}"'.encode() in client.got
        expect(answered, "an honest call is not answered", f"{before} {client.got[-300:]!r}")

    async def look(self) -> None:
        """All clients of an input have left: nothing of it is there, after a moment."""
        await settle()
        self._looks += 1
        if self._looks % 8 == 1:
            await self.ask_honestly(VISITED[self._looks // 8 % len(VISITED)])
        await trio.sleep(AFTER)
        await settle()
        expect(self._handling == 0, "a handler is left", self._handling)
        self.go = trio.Event()
        expect(tasks() == self._tasks, "tasks are left", f"{self._tasks} became {tasks()}")
        expect(descriptors() == self._open, "descriptors are left", f"{self._open} became {descriptors()}")
        self.exchanges.clear()
        self.log.take()


Options = dict[str, Any]


@asynccontextmanager
async def open_stages(*options: Options, begin: Callable[[Stage], object] = id) -> AsyncIterator[list[Stage]]:
    """Open an endpoint for each of these options; look at the end at what all inputs have left."""
    with same_process(), watched_log() as log:
        async with AsyncExitStack() as stack:
            stages = [await _open_stage(stack, log, each) for each in options]
            for stage in stages:
                begin(stage)
                await stage.begin()
            for stage in stages:
                stage._tasks, stage._open = tasks(), descriptors()
            yield stages
            for stage in stages:
                await stage.ask_honestly()
            held = held_bytes()
            expect(held < 100_000, "what strangers sent is kept", f"{held} bytes")
        log.take()


@asynccontextmanager
async def open_one(
    options: Options, check: Callable[[Any, Stage, bool], Awaitable[None]]
) -> AsyncIterator[Check]:
    """One stage, on which `check` looks at each input; at every eighth an honest rollout is asked, too."""
    async with open_stages(options) as (stage,):
        tried = 0

        async def check_next(value: Input) -> None:
            nonlocal tried
            tried += 1
            await check(value, stage, tried % 8 == 0)

        yield check_next


async def _open_stage(stack: AsyncExitStack, log: LogWatch, options: Options) -> Stage:
    options = {**options}
    with way(options.pop("way", OWN)):
        endpoint = await stack.enter_async_context(serve_endpoint(**options))
    stage = Stage(endpoint, log)
    stage.rollout = await stack.enter_async_context(
        endpoint.open_rollout(stage.handle, id="fuzz", on_retry="new")
    )
    stage.honest = await stack.enter_async_context(endpoint.open_rollout(_echo, id="honest"))
    return stage


async def _echo(exchange: Exchange) -> None:
    await exchange.respond(exchange.request.last.text)
