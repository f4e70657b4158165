"""What a websocket is held to: bytes, seconds, and the close codes of RFC 6455.

Over raw sockets: a websocket client would not send what is no websocket.
"""

import gc
import json
import struct
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.asking import connected, read_to_end
from tests.server.test_websocket import create, parrot
from tests.server.watching import watched
from triocept import Endpoint, Exchange, Rollout, serve_endpoint
from triocept._server import websocket_connection
from triocept._server.connection import Connection
from triocept._util.limits import EndpointLimits

pytestmark = [pytest.mark.usefixtures("every_way")]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN = 0x80


def frame(
    payload: bytes, opcode: int = TEXT, *, first: int | None = None, length: int | None = None
) -> bytes:
    """A client's frame, masked with noughts."""
    length = len(payload) if length is None else length
    head = bytes([FIN | opcode if first is None else first])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65536:
        head += bytes([0x80 | 126]) + struct.pack("!H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", length)
    return head + bytes(4) + payload


def call(text: str = "hi", **more: str) -> bytes:
    return frame(json.dumps(create(text, **more)).encode())


def upgrade(rollout: Rollout, *, more: str = "", path: str = "/v1/responses") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}"
        f"Authorization: Bearer {rollout.api_key}\r\n\r\n"
    ).encode()


async def read_until(stream: trio.SocketStream, mark: bytes) -> bytes:
    data, seen = bytearray(), 0
    while data.find(mark, seen) < 0:
        seen = max(0, len(data) - len(mark))
        piece = await stream.receive_some()
        assert piece, f"ended without {mark!r}: {data[-500:]!r}"
        data += piece
    return bytes(data)


@asynccontextmanager
async def opened(endpoint: Endpoint, rollout: Rollout, *, more: str = "") -> AsyncIterator[trio.SocketStream]:
    async with connected(endpoint.port) as stream:
        await stream.send_all(upgrade(rollout, more=more))
        await read_until(stream, b"\r\n\r\n")
        yield stream


def kernel_holds() -> int:
    """Return how many bytes the kernel can hold between the two ends of a TCP connection, at most."""
    if sys.platform != "linux":
        return 16_000_000
    return sum(int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw")


def open_connections() -> int:
    return sum(isinstance(each, Connection) for each in gc.get_objects())


async def test_compression_is_declined_and_a_bomb_is_no_websocket(caplog: pytest.LogCaptureFixture) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (deflate.compress(bytes(1_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with connected(endpoint.port) as stream:
            offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            await stream.send_all(upgrade(rollout, more=offer))
            assert b"extensions" not in (await read_until(stream, b"\r\n\r\n")).lower()
            await stream.send_all(frame(bomb, first=FIN | 0x40 | TEXT))
            assert closing_code(await read_to_end(stream)) == 1002
    assert len(caplog.records) == 1


def closing_code(data: bytes) -> int:
    """Of a close frame, the last of what the server has sent."""
    start = data.rindex(bytes([FIN | CLOSE]))
    return int(struct.unpack("!H", data[start + 2 : start + 4])[0])


NO_WEBSOCKET = {
    "no mask": (b"\x81\x02{}", 1002),
    "a reserved bit": (frame(b"{}", first=FIN | 0x20 | TEXT), 1002),
    "an unknown opcode": (frame(b"", 5), 1002),
    "a continuation of nothing": (frame(b"", 0), 1002),
    "a ping of 126 bytes": (frame(b"x" * 126, PING), 1002),
    "a close of one byte": (frame(b"x", CLOSE), 1002),
    "text that is not UTF-8": (frame(b'{"\xff"'), 1007),
    "text that ends within a character": (frame(b'{"\xc3'), 1007),
    "a message without an end": (frame(b"x" * 9000, first=TEXT), 1009),
}


@pytest.mark.parametrize(("data", "code"), NO_WEBSOCKET.values(), ids=NO_WEBSOCKET.keys())
async def test_what_is_no_websocket_ends_with_its_close_code_and_one_line_in_the_log(
    data: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint(max_body=4000) as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with opened(endpoint, rollout) as stream:
            await stream.send_all(data)
            assert closing_code(await read_to_end(stream)) == code
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


async def test_a_frame_that_comes_with_the_handshake_is_answered_and_leaves_nothing_behind() -> None:
    before = open_connections()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        for _ in range(20):
            async with connected(endpoint.port) as stream:
                await stream.send_all(upgrade(rollout) + call("at once"))
                await read_until(stream, b"response.completed")
        while open_connections() > before:
            await trio.testing.wait_all_tasks_blocked(0.002)
            gc.collect()
    assert len(rollout.trace) == 20


async def test_half_a_frame_with_the_handshake_and_the_rest_of_it_later() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(upgrade(rollout) + call()[:20])
            await read_until(stream, b"\r\n\r\n")
            await stream.send_all(call()[20:])
            assert b"hi" in await read_until(stream, b"response.completed")
    assert [turn.outcome for turn in rollout.trace] == ["answered"]


@pytest.mark.parametrize(("change", "status"), [
    (("Version: 13", "Version: 8"), 400),
    (("Sec-WebSocket-Key", "X-Key"), 400),
    (("Host: a\r\n", "Host: a\r\nContent-Length: 2\r\n"), 400),
    (("/v1/responses", "/v1/elsewhere"), 404),
    (("Bearer ", "Bearer x"), 401),
])  # fmt: skip
async def test_an_upgrade_that_cannot_be_is_refused_in_json(
    change: tuple[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(upgrade(rollout).decode().replace(*change).encode() + b"{}")
            await stream.send_eof()
            head, _, body = (await read_to_end(stream)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body)["error"]["message"]
    assert [record.exc_info for record in caplog.records] == [None]


async def test_a_message_of_many_frames_with_pings_between_them_is_one_call() -> None:
    data = json.dumps(create("in pieces é")).encode()
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with opened(endpoint, rollout) as stream:
            pieces = [frame(data[:1], first=TEXT)]
            pieces += [frame(data[at : at + 1], 0, first=0) + frame(b"p", PING) for at in range(1, len(data))]
            await stream.send_all(b"".join(pieces) + frame(b"", 0))
            seen = await read_until(stream, b"response.completed")
    assert bytes([FIN | PONG, 1]) + b"p" in seen
    assert rollout.trace[0].request.last.text == "in pieces é"


@pytest.mark.once
async def test_a_flood_of_pings_while_an_answer_cannot_be_sent_queues_no_pongs() -> None:
    async def much(exchange: Exchange) -> None:
        await exchange.respond("x" * 20_000_000)

    pings = 20_000
    async with serve_endpoint() as endpoint, endpoint.open_rollout(much) as rollout:
        async with opened(endpoint, rollout) as stream:
            await stream.send_all(call())
            while not len(rollout.trace):
                await trio.testing.wait_all_tasks_blocked(0.01)
            await stream.send_all(frame(b"%ping%", PING) * pings)
            seen = await read_until(stream, b'"type":"response.completed"')
            seen += await read_until(stream, b"%ping%") if b"%ping%" not in seen else b""
    assert seen.count(b"%ping%") < 20


async def test_nothing_more_is_read_while_what_waits_weighs_too_much() -> None:
    caught, go = [0], trio.Event()

    async def hold(exchange: Exchange) -> None:
        caught[0] += 1
        await go.wait()
        await exchange.respond("x")

    size = 2_000_000
    taken = 4 + 10  # the backlog and what is beside it; through ASGI, hypercorn's queue too
    calls = taken + kernel_holds() // size + 4
    limits = EndpointLimits(websocket_backlog=2 * size)
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(hold) as rollout:
        async with opened(endpoint, rollout) as stream, trio.open_nursery() as nursery:
            sent = [0]

            @nursery.start_soon
            async def send() -> None:
                for _ in range(calls):
                    await stream.send_all(call("x" * size, stream_id="a"))
                    sent[0] += 1

            while not caught[0]:
                await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert sent[0] < calls - 1
            go.set()
            seen = b""
            while seen.count(b'"response.completed"') < calls:
                seen += await stream.receive_some()
    assert len(rollout.trace) == calls


async def test_a_large_call_alone_is_no_backlog_and_its_hang_up_is_seen() -> None:
    caught, cancelled = trio.Event(), trio.Event()

    async def hold(exchange: Exchange) -> None:
        caught.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serve_endpoint(limits=EndpointLimits(websocket_backlog=1000)) as endpoint:
        async with endpoint.open_rollout(hold) as rollout:
            async with opened(endpoint, rollout) as stream:
                await stream.send_all(call("x" * 500_000))
                await caught.wait()
            await cancelled.wait()
    assert [turn.outcome for turn in rollout.trace] == ["abandoned"]


async def test_a_reader_that_takes_nothing_is_broken_off_after_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def much(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for _ in range(10_000):
                await stream.send("x" * 10_000)

    async with serve_endpoint(limits=EndpointLimits(reader_seconds=0.3)) as endpoint:
        async with endpoint.open_rollout(much) as rollout, opened(endpoint, rollout) as stream:
            await stream.send_all(call())
            while not len(rollout.trace):
                await trio.testing.wait_all_tasks_blocked(0.01)
    assert rollout.trace[0].outcome == "abandoned"
    assert len([record for record in caplog.records if "has read no byte" in record.message]) == 1


async def test_a_client_that_does_not_close_in_its_turn_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_connection, "CLOSE_WITHIN", 0.2)
    with trio.fail_after(30):
        async with serve_endpoint(grace=30) as endpoint, connected(endpoint.port) as stream:
            async with endpoint.open_rollout(parrot) as rollout:
                await stream.send_all(upgrade(rollout))
                await read_until(stream, b"\r\n\r\n")
            assert closing_code(await read_to_end(stream)) == 1001


async def test_the_name_of_a_lane_is_in_its_events_only_if_it_is_short() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with opened(endpoint, rollout) as stream:
            await stream.send_all(call(stream_id="a" * 1_000_000))
            await read_until(stream, b"at most 256 characters")
            await stream.send_all(call(stream_id="a" * 256))
            assert b"a" * 256 in await read_until(stream, b"response.completed")
    assert len(rollout.trace) == 1


async def test_messages_that_wait_count_with_all_that_was_received_and_not_parsed() -> None:
    async def hold(exchange: Exchange) -> None:
        taken.set()
        await go.wait()
        await exchange.respond("x")

    taken, go = trio.Event(), trio.Event()
    limits = EndpointLimits(waiting_bytes=1_000_000)
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(hold) as rollout:
        async with opened(endpoint, rollout) as stream:
            await stream.send_all(call("first", stream_id="a"))
            await taken.wait()
            for _ in range(3):  # the third is over the half that one rollout may have
                await stream.send_all(call("x" * 200_000, stream_id="a"))
            seen = await read_until(stream, b'"status":503')
            assert b"too many bytes" in seen
            go.set()
            while seen.count(b'"response.completed"') < 3:
                seen += await stream.receive_some()
            await stream.send_all(call("x" * 900_000, stream_id="a"))  # what was parsed counts no more
            await read_until(stream, b'"response.completed"')
    assert len(rollout.trace) == 4


async def test_of_a_message_over_the_cap_nothing_is_kept_while_it_goes_on() -> None:
    mib = 1024 * 1024
    async with serve_endpoint(max_body=4 * mib) as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with opened(endpoint, rollout) as stream:
            piece = frame(b"x" * mib, first=0)
            tracemalloc.start()
            try:
                await stream.send_all(frame(b"x" * mib, first=TEXT))
                for _ in range(5):
                    await stream.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                assert tracemalloc.get_traced_memory()[0] < 3 * mib
            finally:
                tracemalloc.stop()
            await stream.send_all(frame(b"", first=FIN))
            assert b"larger than 4194304 bytes" in await read_until(stream, b'"status":413')


@pytest.mark.once
async def test_thousands_of_frames_that_say_nothing_stop_nobody() -> None:
    stalls = []
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with opened(endpoint, rollout) as stream:
            gc.disable()  # it takes as long, now and then
            try:
                while len(stalls) < 3 and min(stalls, default=1.0) >= 0.03:  # other programs only add to it
                    with watched() as watch:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(watch.run)
                            await stream.send_all(frame(b"", PONG) * 40_000 + call())
                            await read_until(stream, b'"type":"response.completed"')
                            nursery.cancel_scope.cancel()
                    stalls.append(watch.stall)
            finally:
                gc.enable()
    assert min(stalls) < 0.03


async def test_a_client_that_is_still_sending_when_it_is_told_of_the_end_is_not_reset() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(parrot) as rollout:
        async with opened(endpoint, rollout) as stream:
            await rollout.stop("enough")
            assert closing_code(await read_to_end(stream)) == 1001
            for _ in range(5):
                await stream.send_all(call())
                await trio.testing.wait_all_tasks_blocked(0.01)


async def test_messages_that_wait_when_their_agent_hangs_up_count_no_more() -> None:
    async def hold(exchange: Exchange) -> None:
        await trio.sleep_forever()

    limits = EndpointLimits(waiting_bytes=1_000_000)
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(hold) as rollout:
        for _ in range(3):
            async with opened(endpoint, rollout) as stream:
                await stream.send_all(call("first", stream_id="a"))
                await stream.send_all(call("x" * 800_000, stream_id="a"))
                await stream.send_all(call("y", stream_id="b" * 300))  # is told of, when the others were read
                assert b"too many bytes" not in await read_until(stream, b"at most 256 characters")
            while rollout._core.calls.connections:
                await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_message_of_too_many_values_is_refused_and_the_socket_goes_on() -> None:
    async with serve_endpoint(limits=EndpointLimits(document_items=1_000)) as endpoint:
        async with endpoint.open_rollout(parrot) as rollout, opened(endpoint, rollout) as stream:
            document = create("hi") | {"metadata": [[]] * 5_000}
            await stream.send_all(frame(json.dumps(document).encode()))
            await read_until(stream, b"more than 1,000 JSON values")
            await stream.send_all(call())
            await read_until(stream, b'"type":"response.completed"')


async def test_frames_over_those_that_may_wait_on_a_websocket_make_one_line_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def hold(exchange: Exchange) -> None:
        await trio.sleep_forever()

    async with serve_endpoint() as endpoint, endpoint.open_rollout(hold) as rollout:
        async with opened(endpoint, rollout) as stream:
            for number in range(64 + 20):
                await stream.send_all(call("hi", stream_id=f"lane {number}"))
            seen = b""
            while seen.count(b'"status":429') < 20:
                seen += await stream.receive_some()
    assert caplog.text.count("64 calls already wait on this websocket") == 1


async def test_what_is_over_a_limit_on_a_websocket_is_one_line_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    large = frame(b'{"type": "response.create", "input": "' + b"x" * 3_000)
    limits = EndpointLimits(waiting_bytes=10)
    async with serve_endpoint(max_body=2_000, limits=limits) as endpoint:
        async with (
            endpoint.open_rollout(parrot) as rollout,
            opened(endpoint, rollout) as first,
            opened(endpoint, rollout) as stream,
        ):
            await first.send_all(frame(b"{", first=TEXT))  # without its end
            for mark, data in ((b'"status":413', large), (b'"status":503', call("hi"))):
                for _ in range(3):
                    await stream.send_all(data)
                    await read_until(stream, mark)
            for _ in range(3):
                async with opened(endpoint, rollout) as other:
                    await other.send_all(frame(b"x" * 3_000, first=TEXT) + frame(b"x" * 3_000, first=0))
                    await read_to_end(other)
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == [413, 503, 1009]
