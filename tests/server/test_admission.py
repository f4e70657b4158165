"""Who is let in, and for how long: a client without a key takes no room from one that has a key."""

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial

import pytest
import trio
import trio.testing

from tests.asking import ask, ask_body, connected, echo, raw_request, read_to_end
from triocept import EndpointLimits, Exchange, Rollout, Text, ToolCall, serve_endpoint
from triocept._canonical.content import Blob, Opaque, Reasoning
from triocept._canonical.response import ResponsePart
from triocept._server import admission

pytestmark = pytest.mark.usefixtures("every_way")


def request_of(rollout: Rollout, text: str = "hi") -> bytes:
    return raw_request(rollout, json.dumps(ask_body(text)).encode())


async def answer_on(stream: trio.SocketStream, rollout: Rollout) -> bytes:
    """Ask, and read the answer, which is short."""
    await stream.send_all(request_of(rollout))
    data = b""
    while not data.endswith(b"}"):
        piece = await stream.receive_some()
        assert piece, "the connection has ended"
        data += piece
    return data


@asynccontextmanager
async def many(port: int, count: int) -> AsyncIterator[list[trio.SocketStream]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(port)) for _ in range(count)]


async def test_where_there_is_no_room_the_connection_goes_that_has_idled_longest_without_a_key() -> None:
    async with (
        serve_endpoint(limits=EndpointLimits(connections=3)) as endpoint,
        endpoint.open_rollout(echo) as rollout,
        connected(endpoint.port) as keyed,
    ):
        assert b" 200 " in await answer_on(keyed, rollout)
        async with many(endpoint.port, 12) as strangers:
            assert await strangers[0].receive_some() == b""
            async with connected(endpoint.port) as late:
                assert b" 200 " in await answer_on(late, rollout)
                assert b" 200 " in await answer_on(keyed, rollout)


async def test_where_all_have_a_key_a_new_connection_is_told_503() -> None:
    async with (
        serve_endpoint(limits=EndpointLimits(connections=2)) as endpoint,
        endpoint.open_rollout(echo) as rollout,
        many(endpoint.port, 2) as keyed,
    ):
        for stream in keyed:
            await answer_on(stream, rollout)
        async with connected(endpoint.port) as new:
            await new.send_all(request_of(rollout))
            told = await read_to_end(new)
        assert told.startswith(b"HTTP/1.1 503")
        assert b"retry-after" in told
        for stream in keyed:
            assert b" 200 " in await answer_on(stream, rollout)


@pytest.mark.parametrize("bound", ["_max_descriptors", "MOST_KEYLESS"])
async def test_so_many_connections_without_a_key_are_open_at_once_where_nobody_says_how_many(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three quarters of the descriptors; of those without a key no more than a number that is not to be set."""
    monkeypatch.setattr(admission, bound, (lambda: 4) if bound == "_max_descriptors" else 3)
    async with serve_endpoint() as endpoint, connected(endpoint.port) as first:
        async with many(endpoint.port, 2), connected(endpoint.port):
            assert await first.receive_some() == b""


@pytest.mark.parametrize("start", [b"P", b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nX: ", b"GET /he"])
async def test_a_head_that_takes_too_long_is_told_408(start: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serve_endpoint(limits=EndpointLimits(head_seconds=0.2)) as endpoint:
        async with connected(endpoint.port) as stream:
            await stream.send_all(start)
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 408")
    assert len(caplog.records) == 1
    assert not caplog.records[0].exc_info


@pytest.mark.parametrize("first", [1, 3, 4, 40])
async def test_a_head_that_came_in_two_is_late_no_more_once_it_is_whole(first: int) -> None:
    async with (
        serve_endpoint(limits=EndpointLimits(head_seconds=1)) as endpoint,
        endpoint.open_rollout(echo) as rollout,
        connected(endpoint.port) as stream,
    ):
        request = request_of(rollout)
        for piece in (request[:first], request[first:-1]):
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with connected(endpoint.port) as late:
            await late.send_all(b"P")
            assert (await read_to_end(late)).startswith(b"HTTP/1.1 408")
        await stream.send_all(request[-1:])
        assert b" 200 " in await stream.receive_some()


async def test_without_a_key_a_connection_lives_for_a_while_and_with_one_it_may_idle() -> None:
    async with (
        serve_endpoint(limits=EndpointLimits(keyless_seconds=1)) as endpoint,
        endpoint.open_rollout(echo) as rollout,
        connected(endpoint.port) as keyed,
    ):
        await answer_on(keyed, rollout)
        for _ in range(3):
            async with connected(endpoint.port) as stranger:
                assert await read_to_end(stranger) == b""
        assert b" 200 " in await answer_on(keyed, rollout)


@pytest.mark.parametrize(
    "asked",
    ["GET /health", "GET /v1/models", "GET /tools", "GET /nothing", "GET /state", "GET /v1/chat/completions"],
)
async def test_who_has_shown_a_key_may_idle_whatever_it_asked_for_and_however_that_was_answered(
    asked: str,
) -> None:
    async with (
        serve_endpoint(limits=EndpointLimits(keyless_seconds=1)) as endpoint,
        endpoint.open_rollout(echo) as rollout,
        connected(endpoint.port) as keyed,
        connected(endpoint.port) as stranger,
    ):
        head = f"{asked} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer "
        for client, key in ((keyed, rollout.api_key), (stranger, "wrong")):
            await client.send_all(f"{head}{key}\r\n\r\n".encode())
            assert (await client.receive_some()).startswith(b"HTTP/1.1 ")
        assert not (await read_to_end(stranger)).startswith(b"HTTP")
        await trio.sleep(0.3)
        assert b" 200 " in await answer_on(keyed, rollout)


async def test_a_head_that_is_too_long_is_told_431() -> None:
    async with serve_endpoint(limits=EndpointLimits(head_bytes=100_000)) as endpoint:
        async with connected(endpoint.port) as stream:
            await stream.send_all(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 150_000)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 431")


async def test_bodies_that_wait_are_weighed_over_all_connections() -> None:
    body = json.dumps(ask_body("x" * 400_000)).encode()
    async with (
        serve_endpoint(
            limits=EndpointLimits(waiting_bytes=1_000_000)
        ) as endpoint,  # half of it for one rollout
        endpoint.open_rollout(echo) as rollout,
        connected(endpoint.port) as slow,
        connected(endpoint.port) as other,
    ):
        data = raw_request(rollout, body)
        await slow.send_all(data[:-1])
        await trio.testing.wait_all_tasks_blocked(0.05)
        await other.send_all(data[:-1])
        assert (await other.receive_some()).startswith(b"HTTP/1.1 503")
        assert (await ask(rollout)).status_code == 200
        await slow.send_all(data[-1:])
        assert (await slow.receive_some()).startswith(b"HTTP/1.1 200")


async def test_a_body_that_was_parsed_or_cut_weighs_nothing_any_more() -> None:
    async with (
        serve_endpoint(limits=EndpointLimits(waiting_bytes=1_000_000)) as endpoint,
        endpoint.open_rollout(echo) as rollout,
    ):
        data = request_of(rollout, "x" * 900_000)
        for whole in (True, True, False, False, True):
            async with connected(endpoint.port) as stream:
                await stream.send_all(data[:-1])
                await trio.testing.wait_all_tasks_blocked(0.05)
                if whole:
                    await stream.send_all(data[-1:])
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            await trio.testing.wait_all_tasks_blocked(0.05)


async def test_a_client_that_reads_nothing_is_broken_off_and_its_exchange_abandoned() -> None:
    async def flood(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            while True:
                await stream.send("x" * 100_000)

    async with serve_endpoint(limits=EndpointLimits(reader_seconds=0.3)) as endpoint:
        async with endpoint.open_rollout(flood) as rollout, connected(endpoint.port) as stream:
            body = json.dumps(ask_body("hi", stream=True)).encode()
            await stream.send_all(raw_request(rollout, body))
            while not rollout.trace:
                await trio.sleep(0.02)
    assert rollout.trace[0].outcome == "abandoned"


PROGRAM = """
import resource, sys, trio, triocept
from triocept._server.serve import OWN_HTTP1
OWN_HTTP1.set(sys.argv[2] == "own HTTP/1.1")
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

async def main():
    limits = triocept.EndpointLimits(connections=int(sys.argv[1]) or None)
    async with triocept.serve_endpoint(limits=limits) as endpoint:
        async with endpoint.open_rollout(lambda exchange: exchange.respond("hi")) as rollout:
            print(endpoint.port, rollout.api_key, rollout.id, flush=True)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)

trio.run(main)
"""


@pytest.mark.once
@pytest.mark.parametrize("connections", [0, 10_000], ids=["a bound", "no bound but the system's"])
async def test_four_hundred_idle_connections_at_two_hundred_descriptors_starve_no_agent(
    connections: int, every_way: str
) -> None:
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-c", PROGRAM, str(connections), every_way],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some()
        port, key, rollout_id = line.decode().split()
        async with many(int(port), 400):
            with trio.fail_after(30):
                async with connected(int(port)) as stream:
                    body = json.dumps(ask_body()).encode()
                    await stream.send_all(
                        f"POST /rollout/{rollout_id}/v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
                        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                        + body
                    )
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await process.stdin.aclose()


@contextmanager
def one_descriptor_left() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest:
        number = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (number + 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("together", [False, True])
async def test_an_agent_with_the_last_descriptor_is_answered(together: bool) -> None:
    """One after the other: none waits. Together: the next ones wait until a descriptor is free."""
    limits = EndpointLimits(connections=100_000)
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
        assert (await ask(rollout)).status_code == 200
        agents = [trio.socket.socket() for _ in range(4)]
        await trio.testing.wait_all_tasks_blocked(0.02)
        with trio.fail_after(30), one_descriptor_left():
            for agent in agents if together else ():
                await agent.connect(("127.0.0.1", endpoint.port))
                assert os.write(agent.fileno(), request_of(rollout))
            for agent in agents:
                if not together:
                    await agent.connect(("127.0.0.1", endpoint.port))
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    await agent.send(request_of(rollout))
                assert (await agent.recv(10_000)).startswith(b"HTTP/1.1 200")
                agent.close()


async def test_an_answer_that_never_ends_fails_alone() -> None:
    async def never_ends(exchange: Exchange) -> None:
        if exchange.request.last.text == "hi":
            await exchange.respond("hi")
            return
        async with exchange.open_stream() as stream:
            while True:
                await stream.send("ab")

    async with (
        serve_endpoint(limits=EndpointLimits(answer_bytes=100_000)) as endpoint,
        endpoint.open_rollout(never_ends) as rollout,
        connected(endpoint.port) as stream,
    ):
        body = json.dumps(ask_body("for ever", stream=True)).encode()
        await stream.send_all(raw_request(rollout, body))
        answer = await read_to_end(stream)
        assert b"the answer is larger than 100000 bytes" in answer
        assert not answer.endswith(b"0\r\n\r\n")
        assert (await ask(rollout)).status_code == 200
    assert [turn.outcome for turn in rollout.trace] == ["refused", "answered"]


LARGE = "x" * 200_000
PARTS: dict[str, ResponsePart] = {
    "a call, which waits for the end": ToolCall("t", LARGE),
    "an opaque call, which does, too": Opaque("openai_responses", {"type": "local_shell_call", "x": LARGE}),
    "an opaque part": Opaque("openai_responses", {"type": "web_search_call", "x": LARGE}),
    "a blob": Reasoning("hm", (Blob("anthropic_messages", "signature", LARGE),)),
    "what stands beside a text": Text("hi", {"x": LARGE}),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
async def test_whatever_an_answer_is_made_of_is_weighed(part: ResponsePart) -> None:
    async def large(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send(part)

    async with (
        serve_endpoint(limits=EndpointLimits(answer_bytes=100_000)) as endpoint,
        endpoint.open_rollout(large) as rollout,
    ):
        refused = await ask(rollout)
    assert refused.status_code == 502
    assert "the answer is larger than 100000 bytes" in refused.text
