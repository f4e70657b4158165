"""A program that blocks the event loop: time in which no task could run counts against no client."""

import contextlib
import json
import os
import ssl

import pytest
import trio
import trio.testing
import trustme

from tests.asking import ask_body, connected, echo, raw_request, read_answer, read_to_end
from triocept import EndpointLimits, Exchange, Rollout, serve_endpoint

LIMIT = 60.0
BLOCKED = 70.0
"""Seconds for which the event loop is blocked: longer than the limit."""
TEST = 300.0
"""Seconds of the mock clock for a test."""

LIMITS = {
    "nothing": "keyless_seconds",
    "half of the head": "head_seconds",
    "half of the body": "body_seconds",
}


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
                first = {"nothing": 0, "half of the head": 60, "half of the body": len(request) - 20}[sent]
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
@pytest.mark.parametrize("sent", ["nothing", "half of the head"])
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
                first = 60 if sent == "half of the head" else 0
                for agent in agents:
                    await agent.send_all(request[:first])
                await trio.testing.wait_all_tasks_blocked(0.02)
                for agent in agents:
                    assert os.write(agent.socket.fileno(), request[first:])
                clock.jump(BLOCKED)
                for agent in agents:
                    assert (await read_answer(agent)).startswith(b"HTTP/1.1 200")


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
