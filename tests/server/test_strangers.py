"""What a client without a key can do to an endpoint: nothing that lasts."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.asking import connected, read_to_end
from triocept import serve_endpoint
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
