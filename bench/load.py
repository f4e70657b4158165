"""The load: one process, one thread, raw sockets. A job comes as JSON on stdin, its yield goes as JSON to stdout.

Two kinds of job. With `seconds`, every connection sends, waits for the whole answer, and sends again until they are
over; then it waits for what is under way, so that nothing of it is left to the next job. Without, every connection
sends one request and waits; `{"sent": n}` is printed when all are out, so that somebody can tell the server to answer.
Times are of `time.monotonic`, which all processes share. Linux only (epoll).

Rule: what is to be measured is the server, so the loop does nothing that it could have done before.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import cycle

from .bodies import CHAT, make_body
from .wire import BadResponse, ResponseReader, make_request

_CONNECTS = 100
"""How many connections are made before the server gets a moment to accept them: aiohttp's backlog is 128."""
_PATIENCE = 30.0
"""Seconds without a byte after which the server counts as dead."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the load has to do."""

    port: int
    routes: list[list[str]]
    """Path and key of each rollout; the connections take them in turn. If they send one request each, they all say
    something else."""
    connections: int
    body: int
    """Bytes."""
    agent: str = ""
    """Agent of which the recorded bodies are sent instead, by a job that is done once."""
    stream: bool = False
    dialect: str = CHAT
    """What the body is written in; the routes are those of chat completions all the same."""
    seconds: float = 0.0
    """How long to repeat; 0: once, and held."""
    warmup: float = 0.0
    """Seconds before that, which do not count."""

    @property
    def once(self) -> bool:
        """Whether each connection sends one request."""
        return self.seconds == 0


@dataclass(kw_only=True)
class Yield:
    """What the load saw."""

    seconds: float = 0.0
    responses: int = 0
    events: int = 0
    """SSE events."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, one for each response."""
    last_at: float = 0.0
    """When the last response was whole."""
    total: int = 0
    """Responses, those of the warm-up and of the end too."""
    total_events: int = 0
    """The same of SSE events."""


class Connection:
    """One connection and the request that it sends."""

    __slots__ = ("reader", "request", "sent_at", "sock", "unsent")

    def __init__(self, port: int, request: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.request = request
        self.reader = ResponseReader()
        self.unsent = memoryview(b"")
        self.sent_at = 0.0

    def send(self) -> bool:
        """Begin a request; whether all of it is out."""
        self.sent_at = time.monotonic()
        try:
            count = self.sock.send(self.request)
        except BlockingIOError:
            count = 0
        self.unsent = memoryview(self.request)[count:]
        return count == len(self.request)

    def send_more(self) -> bool:
        """Go on with it; whether all of it is out."""
        self.unsent = self.unsent[self.sock.send(self.unsent) :]
        return not self.unsent


class Load:
    """The connections and their loop."""

    def __init__(self, job: Job) -> None:
        requests = make_requests(job)
        self._once = job.once
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._unsent = job.connections
        self._waiting = 0
        for number in range(job.connections):
            connection = Connection(job.port, requests[number % len(requests)])
            fd = connection.sock.fileno()
            self._connections[fd] = connection
            self._poll.register(fd, select.EPOLLIN)
            if (
                self._once
            ):  # as agents do; the endpoint keeps at most 8,192 connections that have sent nothing
                self._send(fd, connection)
            if number % _CONNECTS == _CONNECTS - 1:
                time.sleep(0.02)

    def begin(self) -> None:
        """Send on every connection that has not sent yet."""
        if self._once:
            return
        for fd, connection in self._connections.items():
            self._send(fd, connection)

    def run(self, until: float, *, again: bool) -> Yield:
        """Go round until then, or until every connection has its answer; with `again` each sends the next at once."""
        seen = Yield()
        start = time.monotonic()
        events = self._count_events()
        while (now := time.monotonic()) < until and self._waiting:
            ready = self._poll.poll(min(until - now, _PATIENCE))
            if not ready and until - now >= _PATIENCE:
                raise BadResponse(f"nothing came for {_PATIENCE} seconds")
            for fd, mask in ready:
                self._on_ready(fd, mask, seen, again)
        seen.seconds = time.monotonic() - start
        seen.events = self._count_events() - events
        return seen

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.sock.close()
        self._poll.close()

    def _on_ready(self, fd: int, mask: int, seen: Yield, again: bool) -> None:
        connection = self._connections[fd]
        if mask & select.EPOLLOUT and connection.send_more():
            self._all_sent(fd)
        if not mask & ~select.EPOLLOUT:
            return
        data = connection.sock.recv(262144)
        if not data:
            raise BadResponse("the server closed the connection")
        if connection.reader.feed(data):
            seen.last_at = time.monotonic()
            seen.latencies.append(seen.last_at - connection.sent_at)
            seen.responses += 1
            self._waiting -= 1
            if again:
                self._send(fd, connection)

    def _send(self, fd: int, connection: Connection) -> None:
        self._waiting += 1
        if not connection.send():
            self._poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        elif self._unsent:
            self._all_sent(fd)

    def _all_sent(self, fd: int) -> None:
        self._poll.modify(fd, select.EPOLLIN)
        if self._unsent:
            self._unsent -= 1
            if self._once and not self._unsent:
                print(json.dumps({"sent": len(self._connections)}), flush=True)

    def _count_events(self) -> int:
        return sum(connection.reader.events for connection in self._connections.values())


def make_requests(job: Job) -> list[bytes]:
    """One for each rollout, or for each connection."""
    if job.agent:
        return _agent_requests(job)
    if job.once:
        bodies = (make_body(job.body, stream=job.stream, mark=f" No. {n}") for n in range(job.connections))
        return [make_request(*route, body, hold=True) for route, body in zip(cycle(job.routes), bodies)]
    if job.dialect == CHAT:
        body = make_body(job.body, stream=job.stream)
        return [make_request(path, key, body) for path, key in job.routes]
    from .dialects import make_dialect_body, path_in  # its codecs take a while to import, and chat needs none

    body = make_dialect_body(job.body, job.dialect, stream=job.stream)
    paths = [(path_in(path, job.dialect, stream=job.stream), key) for path, key in job.routes]
    return [make_request(path, key, body) for path, key in paths]


def _agent_requests(job: Job) -> list[bytes]:
    """One for each connection: the calls of the main conversation in turn, with files that no other rollout has."""
    from .dialects import path_in
    from .recording import recorded

    calls = [call for call in recorded(job.agent) if call.kind == "main"]
    return [
        make_request(
            path_in(path, call.dialect, stream=True),
            key,
            call.body.replace(b"wait_for_", b"w%07d_" % (number % len(job.routes))),
            hold=True,
        )
        for number, (path, key), call in zip(range(job.connections), cycle(job.routes), cycle(calls))
    ]


def run(job: Job) -> Yield:
    """Do a job."""
    load = Load(job)
    try:
        gc.disable()
        load.begin()
        if job.once:
            return load.run(time.monotonic() + 4 * _PATIENCE, again=False)
        before = load.run(time.monotonic() + job.warmup, again=True)
        seen = load.run(time.monotonic() + job.seconds, again=True)
        after = load.run(time.monotonic() + _PATIENCE, again=False)
        seen.total = before.responses + seen.responses + after.responses
        seen.total_events = before.events + seen.events + after.events
        return seen
    finally:
        load.close()


def main(lines: Iterable[str]) -> None:
    """Do the job that the first line tells."""
    job = Job(**json.loads(next(iter(lines))))
    print(json.dumps(asdict(run(job))), flush=True)


if __name__ == "__main__":
    main(sys.stdin)
