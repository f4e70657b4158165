"""A program that blocks the event loop: time in which no task could run counts against no client."""

import contextlib
import json
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from tests.asking import ask_body, connected, echo, raw_request, read_answer, read_to_end
from triocept import EndpointLimits, Exchange, Rollout, serve_endpoint
from triocept._server import admission
from triocept._util.limits import MOMENT_TURNS, wait_turns

LIMIT = 60.0
BLOCKED = 70.0
"""Seconds for which the event loop is blocked: longer than the limit."""
TEST = 300.0
"""Seconds of the mock clock for a test."""
TURNS = 5_000
"""Maximum turns of a loop that is blocked in each of them: far more than any test takes."""

LIMITS = {
    "nothing": "keyless_seconds",
    "half of the head": "head_seconds",
    "half of the body": "body_seconds",
}
BEGUN: dict[str, Callable[[bytes], int]] = {
    "nothing": lambda request: 0,
    "half of the head": lambda request: 60,
    "half of the body": lambda request: len(request) - 20,
}
"""Number of bytes of a request that were sent before the block."""


def request_of(rollout: Rollout, size: int = 10, *, chunked: bool = False) -> bytes:
    body = json.dumps(ask_body("x" * size)).encode()
    request = raw_request(rollout, body)
    if not chunked:
        return request
    head = request[: -len(body)].replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.fixture
def clock(mock_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """A clock that runs as any other, and jumps where a program blocks the event loop."""
    mock_clock.rate = 1.0
    return mock_clock


async def send_then_block(stream: trio.SocketStream, data: bytes, clock: trio.testing.MockClock) -> None:
    """Block the event loop once the data is in the kernel's buffer, before any task of the server can read it."""
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert os.write(stream.socket.fileno(), data) == len(data)
    clock.jump(BLOCKED)


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("sent", LIMITS)
async def test_bytes_that_arrive_while_the_loop_is_blocked_are_in_time(
    sent: str, chunked: bool, clock: trio.testing.MockClock
) -> None:
    with trio.fail_after(TEST):
        limits = EndpointLimits(**{LIMITS[sent]: LIMIT})
        async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with connected(endpoint.port) as stream:
                request = request_of(rollout, chunked=chunked)
                first = BEGUN[sent](request)
                await stream.send_all(request[:first])
                await send_then_block(stream, request[first:], clock)
                assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("every_way")
async def test_a_crowd_of_strangers_that_send_while_the_loop_is_blocked_costs_an_agent_nothing(
    clock: trio.testing.MockClock,
) -> None:
    with trio.fail_after(TEST):
        limits = EndpointLimits(head_seconds=LIMIT, keyless_seconds=LIMIT)
        async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with trio.open_nursery() as nursery, connected(endpoint.port) as agent:
                request = request_of(rollout)
                await agent.send_all(request[:60])

                async def stranger(*, task_status: trio.TaskStatus[None]) -> None:
                    async with connected(endpoint.port) as stream:
                        await stream.send_all(b"GET /hea")
                        task_status.started()
                        assert b" 408 " in await read_to_end(stream)

                for _ in range(50):
                    await nursery.start(stranger)
                await send_then_block(agent, request[60:], clock)
                assert (await read_answer(agent)).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("sent", LIMITS)
async def test_handlers_that_block_the_loop_cost_no_other_agent_its_request(
    sent: str, clock: trio.testing.MockClock
) -> None:
    async def blocks(exchange: Exchange) -> None:
        clock.jump(BLOCKED)
        await exchange.respond("hi")

    limits = EndpointLimits(**{LIMITS[sent]: LIMIT})
    with trio.fail_after(100 * BLOCKED):
        async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(blocks) as rollout:
            async with contextlib.AsyncExitStack() as stack:
                agents = [await stack.enter_async_context(connected(endpoint.port)) for _ in range(60)]
                request = request_of(rollout)
                first = BEGUN[sent](request)
                for agent in agents:
                    await agent.send_all(request[:first])
                await trio.testing.wait_all_tasks_blocked(0.02)
                for agent in agents:
                    assert os.write(agent.socket.fileno(), request[first:])
                clock.jump(BLOCKED)
                for agent in agents:
                    assert (await agent.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_that_arrive_while_the_loop_is_blocked_turn_after_turn_are_in_time(
    chunked: bool, clock: trio.testing.MockClock
) -> None:
    with trio.fail_after(100 * BLOCKED):
        limits = EndpointLimits(body_seconds=LIMIT)
        async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
            async with contextlib.AsyncExitStack() as stack:
                agents = [await stack.enter_async_context(connected(endpoint.port)) for _ in range(40)]
                request = request_of(rollout, chunked=chunked)
                for agent in agents:
                    await agent.send_all(request[:-20])
                await trio.testing.wait_all_tasks_blocked(0.02)
                for agent in agents:
                    assert os.write(agent.socket.fileno(), request[-20:])
                for _ in range(10):
                    clock.jump(BLOCKED)
                    await trio.lowlevel.checkpoint()
                for agent in agents:
                    assert (await agent.receive_some()).startswith(b"HTTP/1.1 200")


class Blocks(trio.abc.Instrument):
    """A program that blocks the event loop in each turn, before or after the loop asks the kernel for events."""

    def __init__(self, clock: trio.testing.MockClock, when: str) -> None:
        self._clock = clock
        self._when = when
        self.turns = 0

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1
        if self._when == "before":
            self._clock.jump(BLOCKED)

    def after_io_wait(self, timeout: float) -> None:
        if self._when == "after":
            self._clock.jump(BLOCKED)


@contextlib.contextmanager
def blocked_at_each_turn(clock: trio.testing.MockClock, when: str) -> Iterator[Blocks]:
    blocks = Blocks(clock, when)
    trio.lowlevel.add_instrument(blocks)
    try:
        with trio.fail_after(TURNS * BLOCKED):
            yield blocks
    finally:
        trio.lowlevel.remove_instrument(blocks)


ALL = EndpointLimits(head_seconds=LIMIT, keyless_seconds=LIMIT, body_seconds=LIMIT)


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("sent", BEGUN)
async def test_what_arrives_is_in_time_though_each_turn_of_the_loop_takes_longer_than_the_limits(
    sent: str, again: bool, chunked: bool, when: str, clock: trio.testing.MockClock
) -> None:
    async with serve_endpoint(limits=ALL) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with contextlib.AsyncExitStack() as stack:
            request = request_of(rollout, 30_000, chunked=chunked)
            first = BEGUN[sent](request)
            agents = [await stack.enter_async_context(connected(endpoint.port)) for _ in range(30)]
            for agent in agents:
                if again:
                    await agent.send_all(request)
                    assert (await read_answer(agent)).startswith(b"HTTP/1.1 200")
                await agent.send_all(request[:first])
            await trio.testing.wait_all_tasks_blocked(0.02)
            for agent in agents:
                assert os.write(agent.socket.fileno(), request[first:]) == len(request) - first
            with blocked_at_each_turn(clock, when):
                for agent in agents:
                    assert (await agent.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("sent", BEGUN)
async def test_what_arrives_in_the_last_block_before_the_end_of_a_connection_is_in_time(
    sent: str, again: bool, chunked: bool, clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = b""
    decide = admission.Overdue.is_silent

    def is_silent(self: admission.Overdue) -> bool:
        nonlocal rest
        if rest:
            os.write(stream.socket.fileno(), rest)
        rest = b""
        return decide(self)

    monkeypatch.setattr(admission.Overdue, "is_silent", is_silent)
    async with serve_endpoint(limits=ALL) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            request = request_of(rollout, chunked=chunked)
            if again:
                await stream.send_all(request)
                await read_answer(stream)
            first = BEGUN[sent](request) or again  # a connection with a key may idle
            await stream.send_all(request[:first])
            await trio.testing.wait_all_tasks_blocked(0.02)
            rest = request[first:]
            clock.jump(BLOCKED)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("first", [0, 60])
async def test_a_websocket_is_in_time_though_each_turn_of_the_loop_takes_longer_than_the_limits(
    first: int, when: str, clock: trio.testing.MockClock
) -> None:
    async with serve_endpoint(limits=ALL) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            request = (
                f"GET /v1/responses HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {rollout.api_key}\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ).encode()
            await stream.send_all(request[:first])
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert os.write(stream.socket.fileno(), request[first:]) == len(request) - first
            with blocked_at_each_turn(clock, when):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
                await stream.send_all(b"\x89\x80abcd")  # a ping
                assert await stream.receive_some() == b"\x8a\x00"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_over_tls_all_is_in_time_though_each_turn_of_the_loop_takes_longer_than_the_limits(
    chunked: bool, when: str, clock: trio.testing.MockClock
) -> None:
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    async with serve_endpoint(tls=serving, limits=ALL) as endpoint, endpoint.open_rollout(echo) as rollout:
        request = request_of(rollout, 30_000, chunked=chunked)

        async def ask(plain: trio.SocketStream) -> None:
            stream: Any = trio.SSLStream(plain, trusting, server_hostname="127.0.0.1")
            await stream.send_all(request[:60])
            await stream.send_all(request[60:-20])
            await stream.send_all(request[-20:])
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")

        async with contextlib.AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(connected(endpoint.port)) for _ in range(10)]
            with blocked_at_each_turn(clock, when):
                async with trio.open_nursery() as nursery:
                    for each in streams:
                        nursery.start_soon(ask, each)


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize(
    ("sent", "trickles", "again"),
    [
        *((sent, False, False) for sent in BEGUN),
        ("nothing", True, False),
        ("half of the head", True, False),
        ("half of the head", True, True),
    ],
)
async def test_a_client_that_is_late_is_ended_though_the_loop_is_blocked_at_each_turn(
    sent: str, trickles: bool, again: bool, clock: trio.testing.MockClock
) -> None:
    """Whether it is silent, or sends a byte in each turn. (Each byte of a body begins its limit anew.)"""
    async with serve_endpoint(limits=ALL) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream, trio.open_nursery() as nursery:
            request = request_of(rollout)
            if again:
                await stream.send_all(request)
                await read_answer(stream)
            await stream.send_all(request[: BEGUN[sent](request)])
            await trio.testing.wait_all_tasks_blocked(0.02)

            async def at_each_turn() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while True:
                        await trio.lowlevel.checkpoint()
                        if trickles:
                            await stream.send_all(b"G")

            with blocked_at_each_turn(clock, "before"):
                nursery.start_soon(at_each_turn)
                data = await read_to_end(stream)
                nursery.cancel_scope.cancel()
            # What was not read when the connection was closed resets it, and the 408 is lost.
            assert data.startswith(b"HTTP/1.1 408") or trickles or sent == "nothing"


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("at_once", [1, 60, 2_000])
async def test_a_stranger_cannot_hold_its_connection_by_requests_without_a_key_at_each_turn_of_a_blocked_loop(
    at_once: int, clock: trio.testing.MockClock
) -> None:
    async with serve_endpoint(limits=ALL) as endpoint:
        async with connected(endpoint.port) as stream, trio.open_nursery() as nursery:

            async def ask() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while True:
                        await stream.send_all(at_once * b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")

            with blocked_at_each_turn(clock, "before") as blocks:
                nursery.start_soon(ask)
                data = await read_to_end(stream)
                nursery.cancel_scope.cancel()
    assert data.startswith(b"HTTP/1.1 200")
    assert blocks.turns < 1_000


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [12, 60])
async def test_a_request_with_a_key_is_in_time_though_many_without_a_key_arrived_before_it(
    count: int, when: str, clock: trio.testing.MockClock
) -> None:
    async with serve_endpoint(limits=ALL) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            with blocked_at_each_turn(clock, when):
                await stream.send_all(
                    count * b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" + request_of(rollout)
                )
                data = bytearray()
                while data.count(b"HTTP/1.1 200") <= count:
                    piece = await stream.receive_some()
                    assert piece, f"ended after {data.count(b'HTTP/1.1 200')} answers"
                    data += piece


@pytest.mark.usefixtures("every_way")
async def test_strangers_cannot_hold_their_connections_by_waiting_for_each_other_in_a_blocked_loop(
    clock: trio.testing.MockClock,
) -> None:
    async with serve_endpoint(limits=ALL) as endpoint, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(connected(endpoint.port)) for _ in range(100)]

        async def trickle(stream: trio.SocketStream) -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"G")

        with blocked_at_each_turn(clock, "before") as blocks:
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(trickle, stream)
    assert blocks.turns < 1_000


async def test_a_tls_handshake_that_was_begun_may_end_after_the_loop_was_blocked(
    clock: trio.testing.MockClock,
) -> None:
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with trio.fail_after(TEST):
        limits = EndpointLimits(head_seconds=LIMIT)
        async with serve_endpoint(tls=serving, limits=limits) as endpoint, connected(endpoint.port) as stream:
            await send_then_block(stream, outgoing.read(), clock)
            while client.version() is None or outgoing.pending:
                incoming.write(await stream.receive_some())
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                await stream.send_all(outgoing.read())
            client.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            await stream.send_all(outgoing.read())
            assert await stream.receive_some()


async def test_over_tls_what_is_read_just_before_the_end_of_a_connection_is_in_time(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each client sends its first message, and later the end of the handshake with its request, before such a check.

    Several clients, one after the other: in a turn of the loop, tasks run in any order.
    """
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)

    async def answer(stream: trio.SocketStream, request: bytes) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        sent = trio.Event()

        async def send_before_the_last(count: int) -> None:
            await wait_turns(count - 1)
            if count == MOMENT_TURNS and not sent.is_set():
                with contextlib.suppress(BlockingIOError):
                    incoming.write(os.read(stream.socket.fileno(), 100_000))
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    client.write(request)
                    sent.set()
                os.write(stream.socket.fileno(), outgoing.read())
            await wait_turns(1)

        monkeypatch.setattr(admission, "wait_turns", send_before_the_last)
        await trio.testing.wait_all_tasks_blocked(0.02)
        clock.jump(BLOCKED)
        await sent.wait()
        while piece := await stream.receive_some():
            incoming.write(piece)
            with contextlib.suppress(ssl.SSLWantReadError):
                return client.read()
        return b""

    with trio.fail_after(100 * BLOCKED):
        async with (
            serve_endpoint(tls=serving, limits=ALL) as endpoint,
            endpoint.open_rollout(echo) as rollout,
        ):
            for _ in range(12):
                async with connected(endpoint.port) as stream:
                    assert (await answer(stream, request_of(rollout))).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("every_way")
async def test_a_client_that_reads_while_the_loop_is_blocked_gets_its_whole_answer(
    clock: trio.testing.MockClock,
) -> None:
    size = 8_000_000

    async def answer(exchange: Exchange) -> None:
        await exchange.respond("x" * size)

    limits = EndpointLimits(reader_seconds=LIMIT)
    with trio.fail_after(TEST):
        async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(answer) as rollout:
            async with connected(endpoint.port) as stream:
                await stream.send_all(request_of(rollout))
                data = bytearray(await stream.receive_some())
                await trio.testing.wait_all_tasks_blocked(0.02)  # the server waits until the client reads
                clock.jump(BLOCKED)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        data += os.read(stream.socket.fileno(), 1024 * 1024)
                while len(data) < size:
                    piece = await stream.receive_some()
                    assert piece, "ended within an answer"
                    data += piece


@pytest.mark.usefixtures("every_way")
async def test_a_rollout_that_ends_while_its_half_body_is_late_ends_the_request_as_any_other(
    clock: trio.testing.MockClock,
) -> None:
    async with serve_endpoint(limits=ALL) as endpoint, connected(endpoint.port) as stream:
        async with endpoint.open_rollout(echo) as rollout:
            await stream.send_all(request_of(rollout)[:-20])
            await trio.testing.wait_all_tasks_blocked(0.02)
            clock.jump(BLOCKED)
            await trio.testing.wait_all_tasks_blocked(0.02)
            await rollout.stop("enough")
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 404")


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("sent", BEGUN)
async def test_a_client_that_leaves_when_it_is_late_leaves_nothing(
    sent: str, clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint(limits=ALL) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            request = request_of(rollout)
            await stream.send_all(request[: BEGUN[sent](request)])
            await trio.testing.wait_all_tasks_blocked(0.02)
            clock.jump(BLOCKED)
            await trio.testing.wait_all_tasks_blocked(0.02)
        while rollout._core.on_end:  # the connection, if it has sent the key
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with connected(endpoint.port) as stream:
            await stream.send_all(request)
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")
    assert not caplog.records


@pytest.mark.usefixtures("every_way")
async def test_the_framing_of_a_chunk_is_part_of_a_body_that_arrives(clock: trio.testing.MockClock) -> None:
    limits = EndpointLimits(body_seconds=LIMIT)
    with trio.fail_after(1000):
        async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
            head, body = request_of(rollout, chunked=True).split(b"\r\n\r\n", 1)
            async with connected(endpoint.port) as stream:
                size, rest = body.split(b"\r\n", 1)
                pieces = [head, b"\r\n\r\n", *(b"%c" % c for c in size), b"; a=", b"b", b"\r\n", rest]
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    clock.jump(LIMIT - 10)
                    await trio.testing.wait_all_tasks_blocked(0.02)
                assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")
            async with connected(endpoint.port) as stream:
                await stream.send_all(head + b"\r\n\r\n" + body[:1])
                await trio.testing.wait_all_tasks_blocked(0.02)
                clock.jump(LIMIT + 1)
                assert (await read_answer(stream)).startswith(b"HTTP/1.1 408")
