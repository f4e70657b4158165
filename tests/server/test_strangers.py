"""What a client without a key can do to an endpoint: nothing that lasts."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress

import pytest
import trio
import trio.testing

from tests.asking import ask, connected, echo, read_to_end
from tests.server.watching import resident
from triocept import EndpointLimits, serve_endpoint
from triocept._server import admission
from triocept._server.routes import Routes
from triocept.dialects import DIALECTS

pytestmark = pytest.mark.usefixtures("both_ways")

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
    with trio.fail_after(60):
        async with serve_endpoint() as endpoint:
            with kept_under(2 * MIB):
                for number in range(40):
                    async with connected(endpoint.port) as stream:
                        query = f"{number}{'q' * 50_000}"
                        await stream.send_all(post(f"/v1/messages?{query}", "Connection: close"))
                        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 401")


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
    with trio.fail_after(20):
        async with serve_endpoint(websocket=speaks) as endpoint, connected(endpoint.port) as stream:
            await stream.send_all(UPGRADE.format(path).encode())
            answer = await read_to_end(stream)
    assert answer.startswith(b"HTTP/1.1 404")
    assert "no websocket" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
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


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_without_a_key_leaves_memory_where_it_was(
    flood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred connections at once, three times: held down while they are there, and nothing when they are gone."""
    monkeypatch.setattr(admission, "MOST_HELD", 4 * MIB)
    limits = EndpointLimits(keyless_seconds=1.0, head_seconds=0.5, reader_seconds=0.5, connections=150)
    with trio.fail_after(60):
        async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
            await ask(rollout)
            await flood_with(FLOODS[flood], endpoint.port)
            before = resident()
            for _ in range(3):
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
            async with connected(port) as stream:
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
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(connected(endpoint.port)) for _ in range(6)]
            for stream in streams:
                await stream.send_all(start)
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert (await read_to_end(streams[0])).startswith(b"HTTP/1.1 408")
            await streams[5].send_all(b"\r\nContent-Length: 0\r\n\r\n")
            assert (await streams[5].receive_some()).startswith(b"HTTP/1.1 401")
