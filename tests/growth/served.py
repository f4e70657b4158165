"""Requests over a whole connection, in all sizes: HTTP/1.1 from the socket's bytes to the application."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import trio
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from tests.growth.connections import NO_BOUNDS, bytes_of
from tests.growth.measured import Make, Work, bounded
from triocept import EndpointLimits
from triocept._rollout.registry import Registry
from triocept._server.admission import Admission, Share
from triocept._server.connection import Connection
from triocept._server.http11 import HTTP11
from triocept._server.intake import Route, Routes
from triocept._server.keys import Keys
from triocept._server.serve import _config
from triocept._server.transport import Head, Reply, Transport
from triocept._server.websocket_connection import WebSocket
from triocept.dialects import DIALECTS

ROUTES = Routes(DIALECTS.values())
KEYS = Keys(Registry(), DIALECTS.values())


class Rollout:
    """As far as the server knows one."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.ending = None
        self.on_end: set[Any] = set()


ROLLOUT: Any = Rollout()
CALL = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
OTHER = b"POST /other HTTP/1.1\r\nhost: a\r\n"


class Client(trio.abc.Stream):
    """A client whose segments are there already, that takes all it is sent, and leaves after so many answers."""

    def __init__(self, pieces: Iterable[bytes], *, answers: int = 0, one_by_one: bool = False) -> None:
        self.socket = self
        self.family = 0
        self._pieces = iter(pieces)
        self._given = 0
        self._piece = memoryview(b"")
        self._answers = answers
        self._one_by_one = one_by_one
        self._answered = 0
        self._news = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._piece:
            await self._wait_for(self._given - 1 if self._one_by_one else 0)
            self._piece = memoryview(next(self._pieces, b""))
            self._given += 1
            if not self._piece:
                await self._wait_for(self._answers)
        data, self._piece = self._piece[:max_bytes], self._piece[max_bytes or len(self._piece) :]
        return bytes(data)

    def answer(self) -> None:
        """It has one answer more."""
        self._answered += 1
        self._news.set()

    async def _wait_for(self, count: int) -> None:
        while self._answered < count:
            self._news = trio.Event()
            await self._news.wait()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._answered = 1 << 40
        self._news.set()

    def getpeername(self) -> None:
        """It has no address."""

    getsockname = getpeername


class Answers:
    """The application: reads a request to its end and answers `size` bytes; if it `holds`, when its client hangs up."""

    keys = KEYS
    routes = ROUTES

    def __init__(self, client: Client, admission: Admission, *, key: bool, holds: bool, size: int) -> None:
        self.replies = self
        self._client = client
        self._admission = admission
        self._key = key
        self._holds = holds
        self._size = size

    def holder_of_key(self, head: Head) -> Any:
        return ROLLOUT if self._key else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message["type"] == "http.request" and (self._holds or message.get("more_body")):
            message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * self._size})
        self._client.answer()

    def in_front(self, head: Head, *, keyed: bool) -> Reply | None:
        if keyed:
            return None
        self._client.answer()
        return Reply(401, body=b"x" * self._size)

    async def intake(self, route: Route, head: Head, transport: Transport) -> None:
        share = Share(self._admission.waiting, ROLLOUT)
        if self._key:  # else nobody reads it
            await transport.receive_body(1 << 40, share)
        share.release()
        transport.respond(Reply(200, body=b"x" * self._size))
        await transport.flush()
        self._client.answer()

    async def websocket(self, head: Head, socket: WebSocket) -> None:
        await socket.accept()
        while await socket.receive() is not None:
            self._client.answer()


def served(
    pieces: Sequence[bytes],
    answers: int = 0,
    *,
    one_by_one: bool = False,
    key: bool = True,
    holds: bool = False,
    size: int = 1,
    limits: EndpointLimits = NO_BOUNDS,
) -> Work:
    """A connection, from its first byte to its end."""

    async def main() -> None:
        client = Client(pieces, answers=answers, one_by_one=one_by_one)
        admission = Admission(limits)
        front: Any = Answers(client, admission, key=key, holds=holds, size=size)
        stream: Any = client
        connection = Connection(
            wrap_app(front, 1 << 40, "asgi"),
            _config(keep_alive=True),
            WorkerContext(None),
            stream,
            admission=admission,
            http11=partial(HTTP11, front=front),
            front=front,
            max_body=1 << 40,
        )
        admission.enter(connection)
        await connection.run()

    return partial(trio.run, main)


# HTTP/1.1


def with_body(start: bytes, body: bytes = b"{}") -> bytes:
    return start + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def over_http1(name: str, start: bytes) -> dict[str, Make]:
    """The same to the path of a model call, and to another one."""
    request = with_body(start)
    chunked = start + b"transfer-encoding: chunked\r\n\r\n"
    return {
        # a head that is longer than what is read at once (256 KiB) is hypercorn's, at six times the cost
        f"headers of {name}": bounded(
            lambda n: served([with_body(start + b"".join([b"a%d: b\r\n" % k for k in range(n)]))], 1), 6_000
        ),
        f"a long header of {name}": lambda n: served(
            [with_body(start + b"a: " + b"b" * 100 * n + b"\r\n")], 1
        ),
        f"a long path of {name}": lambda n: served(
            [request.replace(b" HTTP", b"/%b HTTP" % (b"a" * 100 * n))], 1
        ),
        f"a head of {name} in single bytes": lambda n: served(
            bytes_of(with_body(start + b"a: " + b"b" * n + b"\r\n")), 1
        ),
        f"a head of {name} in single bytes, without a key": lambda n: served(
            bytes_of(with_body(start + b"a: " + b"b" * n + b"\r\n")), 1, key=False
        ),
        f"a head of {name} in pieces, without a key": lambda n: served(
            bytes_of(with_body(start + b"a: " + b"b" * 300 * n + b"\r\n"), 300), 1, key=False
        ),
        f"a body of {name} in single bytes": lambda n: served(bytes_of(with_body(start, b"x" * n), 1), 1),
        f"{name}, one behind the other": lambda n: served([request * n], n),
        f"{name}, one after the other": lambda n: served([request] * n, n, one_by_one=True),
        f"{name} with a chunked body, one behind the other": lambda n: served(
            [(chunked + b"1\r\nx\r\n0\r\n\r\n") * n], n
        ),
        f"chunks of a body of {name}": lambda n: served([chunked, b"1\r\nx\r\n" * n + b"0\r\n\r\n"], 1),
        f"chunks of a body of {name}, one by one": lambda n: served(
            [chunked, *[b"1\r\nx\r\n"] * n, b"0\r\n\r\n"], 1
        ),
        f"chunks of a body of {name} in single bytes": lambda n: served(
            [chunked, *bytes_of(b"1\r\nx\r\n" * n), b"0\r\n\r\n"], 1
        ),
    }


SERVED: dict[str, Make] = {**over_http1("a model call", CALL), **over_http1("another request", OTHER)}

STEADY_SERVED: dict[str, Make] = {
    "model calls, one after the other": SERVED["a model call, one after the other"]
}
"""What takes as much memory for n as for 2n."""
