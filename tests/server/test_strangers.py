"""What a client without a key can do to an endpoint: nothing that lasts."""

import gc
import json
import socket
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from tests.asking import ask, connected, echo, read_answer, read_to_end
from tests.server.watching import resident, watched
from triocept import EndpointLimits, serve_endpoint
from triocept._server import admission, connection
from triocept._server.base_connection import Wire
from triocept._server.front import Front, HTTPCycle
from triocept._server.intake import Routes
from triocept._util.bare_socket import BareSocket
from triocept.dialects import DIALECTS

pytestmark = pytest.mark.usefixtures("every_way")

MIB = 1024 * 1024


@contextmanager
def kept_under(most: int) -> Iterator[None]:
    """What was allocated in the body, and is still there behind it, is less than so many bytes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < most, f"{kept / MIB:.1f} MiB are kept"


def post(path: str, *more: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", "Content-Length: 2", *more, "", "{}"]).encode()


async def test_long_queries_leave_nothing_behind() -> None:
    async with serve_endpoint() as endpoint:
        with kept_under(2 * MIB):
            for number in range(40):
                async with connected(endpoint.port) as stream:
                    query = f"{number}{'q' * 50_000}"
                    await stream.send_all(post(f"/v1/messages?{query}", "Connection: close"))
                    assert (await read_answer(stream)).startswith(b"HTTP/1.1 401")


def test_no_query_that_may_hold_a_key_is_kept() -> None:
    routes = Routes(DIALECTS.values())
    for query in ("", "beta=true", "alt=sse", "key=secret", "alt=sse&key=secret"):
        assert routes.match("/v1/messages", query) is not None
    assert routes._match_again.cache_info().currsize == 3
    assert routes.match(f"/rollout/{'x' * 200}/v1/messages", "") is not None
    assert routes._match_again.cache_info().currsize == 3


UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/mcp", "/v1/chat/completions", "/nowhere"])
@pytest.mark.parametrize("speaks", [True, False])
async def test_a_websocket_that_is_not_there_is_a_404_in_json(
    path: str, speaks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint(websocket=speaks) as endpoint, connected(endpoint.port) as stream:
        await stream.send_all(UPGRADE.format(path).encode())
        answer = await read_to_end(stream)
    assert answer.startswith(b"HTTP/1.1 404")
    assert (
        "websockets are supported only at" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    )
    assert not [record for record in caplog.records if record.exc_info]


MESSAGES = "/v1/messages"
FLOODS = {
    "nothing": b"",
    "half a head": b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 60_000,
    "a large head of another route": b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000,
    "a long query": post(f"/v1/messages?{'q' * 50_000}"),
    "a wrong key": post(MESSAGES, "Authorization: Bearer wrong"),
    "a body without an end": b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"
    + b"x" * 300_000,
    "a body without an end, for another route": b"POST /user HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"
    + b"x" * 300_000,
    "answers that nobody reads": b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 5_000,
}


@pytest.mark.timeout(240)
@pytest.mark.once
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_without_a_key_leaves_memory_where_it_was(
    flood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred connections at once, twice: held down while they are there, and nothing when they are gone."""
    monkeypatch.setattr(admission, "MOST_HELD", 4 * MIB)
    limits = EndpointLimits(keyless_seconds=1.0, head_seconds=0.5, reader_seconds=0.5, connections=150)
    # some seconds, where nothing else runs
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
        await ask(rollout)
        for _ in range(2):  # until the heap has settled
            await flood_with(FLOODS[flood], endpoint.port)
        before = resident()
        for _ in range(2):
            await flood_with(FLOODS[flood], endpoint.port)
            assert (await ask(rollout)).status_code == 200
        with trio.move_on_after(10):  # until the last of them is gone
            while resident() - before > 25 * MIB:
                await trio.sleep(0.1)
                gc.collect()
        grown = resident() - before
    assert grown < 25 * MIB


async def flood_with(data: bytes, port: int) -> None:
    async def one() -> None:
        with suppress(OSError, trio.BrokenResourceError), trio.move_on_after(0.5):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(data)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(one)


async def test_what_is_held_for_strangers_is_weighed_and_the_first_of_them_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "MOST_HELD", 200_000)
    start = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 50_000
    async with serve_endpoint() as endpoint, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(connected(endpoint.port)) for _ in range(6)]
        for stream in streams:
            await stream.send_all(start)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await read_to_end(streams[0])).startswith(b"HTTP/1.1 408")
        await streams[5].send_all(b"\r\nContent-Length: 0\r\n\r\n")
        assert (await streams[5].receive_some()).startswith(b"HTTP/1.1 401")


async def test_what_comes_while_an_answer_is_not_read_is_weighed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_HELD", 600_000)
    refused = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" * 1_000
    cut: list[int] = []

    async def send(port: int, number: int) -> None:
        with suppress(trio.BrokenResourceError):
            async with connected(port) as stream:
                while True:
                    await stream.send_all(refused)
        cut.append(number)

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(send, endpoint.port, number)
        while not cut:
            await trio.testing.wait_all_tasks_blocked(0.02)
        nursery.cancel_scope.cancel()
    assert len(cut) < 4


def lines(start: bytes, count: int) -> bytes:
    return start + b" HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * (count - 1) + b"\r\n"


TRAILERS = (
    b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    + b"a: b\r\n" * 1_000
    + b"\r\n"
)


@pytest.mark.parametrize("start", [b"POST /v1/messages", b"GET /health"])
async def test_a_head_has_so_many_lines_and_no_more(start: bytes) -> None:
    limits = EndpointLimits(head_lines=100)
    async with serve_endpoint(limits=limits) as endpoint:
        for count, refused in ((100, False), (101, True), (5_000, True)):
            async with connected(endpoint.port) as stream:
                await stream.send_all(lines(start, count))
                answer = await stream.receive_some()
                assert answer.startswith(b"HTTP/1.1 431") == refused, (count, answer)


async def test_a_model_calls_head_has_no_more_lines_though_each_is_another_header() -> None:
    """What HTTP/1.1's own way would take."""
    async with serve_endpoint(limits=EndpointLimits(head_lines=100)) as endpoint:
        for count, status in ((100, b" 401"), (101, b" 431")):
            more = [f"x-{number}: y" for number in range(count - 2)]  # with those of `post`
            async with connected(endpoint.port) as stream:
                await stream.send_all(post("/v1/messages", *more))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1" + status)


async def test_behind_a_head_that_was_refused_no_more_is_read_than_a_few_heads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_REFUSED_SECONDS", 60)
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"GET /health HTTP/1.1\r\n" + b"x" * 1_000_000)


async def test_lines_behind_a_body_are_counted_too_and_a_head_that_has_no_end_yet() -> None:
    async with serve_endpoint() as endpoint:
        for data in (TRAILERS, lines(b"GET /health", 300)[:-2], lines(b"POST /v1/messages", 20_000)[:-2]):
            async with connected(endpoint.port) as stream:
                await stream.send_all(data)
                assert b"HTTP/1.1 431" in await read_to_end(stream)


async def test_a_refused_head_is_gone_with_its_answer_and_no_garbage_collector_has_to_come() -> None:
    async with serve_endpoint() as endpoint:
        for data in (lines(b"GET /health", 40_000), FLOODS["a large head of another route"] + b"\r\n\r\n"):
            await answered(data, endpoint.port)
            gc.collect()
            gc.disable()
            try:
                with kept_under(3 * MIB):
                    for _ in range(40):
                        await answered(data, endpoint.port)
            finally:
                gc.enable()


async def answered(data: bytes, port: int) -> None:
    with suppress(trio.BrokenResourceError):
        async with connected(port) as stream:
            await stream.send_all(data)
            await stream.receive_some()


CROWDS = {
    "many lines, a model call": (100, lines(b"POST /v1/chat/completions", 42_000), 40 * MIB),
    "many lines, another route": (100, lines(b"GET /health", 42_000), 40 * MIB),
    "no end": (600, b"POST /v1/chat/completions HTTP/1.1\r\nX-A: " + b"b" * 250_000, 80 * MIB),
}


@pytest.mark.once
@pytest.mark.parametrize("crowd", CROWDS)
async def test_a_crowd_of_large_heads_holds_no_more_memory_than_is_promised_and_stalls_nobody(
    crowd: str,
) -> None:
    count, data, most = CROWDS[crowd]
    stalls: list[float] = []
    while (
        len(stalls) < 2 and min(stalls, default=1.0) >= 0.1
    ):  # other programs only add to what a try measures
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            await ask(rollout)
            gc.collect()
            # a process of its own sends: what the clients hold, and the time they take, is not the endpoint's
            command = [sys.executable, "-c", CROWD, str(endpoint.port), str(count)]
            with watched() as watch:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watch.run)
                    await trio.run_process(command, stdin=data)
                    nursery.cancel_scope.cancel()
            assert (await ask(rollout)).status_code == 200
        assert watch.grown < most, f"{watch.grown / MIB:.0f} MiB"
        stalls.append(watch.stall)
    assert min(stalls) < 0.1


CROWD = """
import sys, trio
data = sys.stdin.buffer.read()
async def one():
    try:
        async with await trio.open_tcp_stream("127.0.0.1", int(sys.argv[1])) as stream:
            await stream.send_all(data)
            while await stream.receive_some():
                pass
    except (OSError, trio.BrokenResourceError):
        pass
async def main():
    with trio.move_on_after(4):
        async with trio.open_nursery() as nursery:
            for _ in range(int(sys.argv[2])):
                nursery.start_soon(one)
trio.run(main)
"""


class Reads(trio.abc.Instrument):
    """What is read of connections between two looks of the event loop at its sockets."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    def before_io_wait(self, timeout: float) -> None:
        self.now = 0

    def take(self, socket: BareSocket, most: int, *, real: Any = BareSocket.take) -> bytes | None:
        data: bytes | None = real(socket, most)
        self.now += bool(data)
        self.all += bool(data)
        self.most = max(self.most, self.now)
        return data


@pytest.mark.once
@pytest.mark.parametrize("start", ["POST /v1/chat/completions", "GET /health"])
async def test_of_three_hundred_strangers_that_send_at_once_a_few_are_read_at_a_time(
    start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads()
    data = f"{start} HTTP/1.1\r\nHost: a\r\nX-A: ".encode() + b"b" * 60_000
    monkeypatch.setattr(BareSocket, "take", lambda socket, most: reads.take(socket, most))
    with ExitStack() as stack:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
            address = ("127.0.0.1", endpoint.port)
            streams = [stack.enter_context(socket.create_connection(address)) for _ in range(300)]
            await trio.testing.wait_all_tasks_blocked(0.05)  # all are accepted
            trio.lowlevel.add_instrument(reads)
            for stream in streams:
                stream.sendall(data)
            await trio.testing.wait_all_tasks_blocked(0.05)
            trio.lowlevel.remove_instrument(reads)
            most = reads.most  # of strangers
            assert (await ask(rollout)).status_code == 200
    assert reads.all >= 300
    assert most <= admission.AT_ONCE


async def test_a_stranger_that_begins_has_its_turn_before_those_that_are_in_the_middle_of_something() -> None:
    order: list[str] = []
    taken, given = admission.Turns(admission.AT_ONCE), trio.Event()
    guest: Any = SimpleNamespace(in_turns=0)

    async def wait(name: str, begins: bool) -> None:
        await taken.begin(guest, begins=begins)
        order.append(name)
        await taken.end(guest)

    async def hold() -> None:
        await taken.begin(guest, begins=True)
        await given.wait()
        await taken.end(guest)

    async with trio.open_nursery() as nursery:
        for _ in range(admission.AT_ONCE):
            nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(20):
            nursery.start_soon(wait, f"in a head {number}", False)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as left:
            left.cancel()
            await wait("gone", True)
        nursery.start_soon(wait, "an agent", True)
        await trio.testing.wait_all_tasks_blocked()
        given.set()
    assert order.index("an agent") < admission.AT_ONCE
    assert len(order) == 21
    assert taken._taken == 0
    assert guest.in_turns == 0


async def test_a_body_that_waits_for_an_application_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def take_nothing(self: Front, scope: object, cycle: HTTPCycle) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Front, "_http", take_nothing)
    monkeypatch.setattr(admission, "MOST_HELD", 60_000)
    head = b"POST /user HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
    async with serve_endpoint() as endpoint:
        for size, goes in ((30_000, False), (150_000, True)):
            async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as stream:
                await stream.send_all(head + b"x" * size)
                with trio.move_on_after(9 if goes else 0.2):
                    await read_to_end(stream)
                    assert goes
                    continue
                assert not goes, "it is still there"


async def test_a_piece_that_was_read_in_a_strangers_turn_is_not_lost_when_its_reader_is_cancelled() -> None:
    """As where a connection goes from one protocol to another with its first head."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"the beginning of a body")
        ours.setblocking(False)
        wire, taken = Wire(trio.SocketStream(trio.socket.from_stdlib_socket(ours))), bytearray()

        async def read() -> None:
            with trio.CancelScope() as scope:
                guest: Any = SimpleNamespace(
                    keyless=True,
                    in_turns=0,
                    note_piece=lambda size: None,
                    hold=lambda _: scope.cancel(),
                )
                taken.extend(await wire.receive_keyless(100, admission.Turns(1), 0, guest, True))

        await read()
    assert taken == b"the beginning of a body"
