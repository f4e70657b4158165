"""What an endpoint says while it ends."""

import gc

import pytest
import trio
import trio.testing

from tests.asking import connected, echo, raw_request, read_to_end
from triocept import Endpoint, Exchange, run_endpoint, serve_endpoint

pytestmark = [pytest.mark.usefixtures("every_way")]

ASK = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'


async def serve(scope: trio.CancelScope, *, task_status: trio.TaskStatus[Endpoint]) -> None:
    with scope:
        await run_endpoint(grace=9, task_status=task_status)


async def large(exchange: Exchange) -> None:
    await exchange.respond("x" * 20_000_000)


@pytest.mark.parametrize("path", [None, "/v1/models", "/state"])
async def test_an_old_url_is_told_that_the_endpoint_stops_and_not_that_its_key_is_wrong(
    path: str | None, every_way: str
) -> None:
    """Or not at all: behind an answer that is on its way when the endpoint stops, hypercorn ends the connection."""
    stop = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        endpoint: Endpoint = await nursery.start(serve, stop)
        async with endpoint.open_rollout(echo) as old:
            late = raw_request(old, ASK, path=path)
        if path is not None:
            late = late.replace(b"POST", b"GET").partition(b"Content-Type")[0] + b"\r\n"
        async with endpoint.open_rollout(large) as rollout, connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, ASK) + late)  # and reads nothing for a while
            while not len(rollout.trace):
                await trio.testing.wait_all_tasks_blocked(0.005)
            stop.cancel()
            while not endpoint._registry.closing:
                await trio.testing.wait_all_tasks_blocked(0.005)
            seen = await read_to_end(stream)
    behind = seen[20_000_000:]
    assert b"HTTP/1.1 401 " not in behind
    if every_way == "through ASGI" and b"HTTP/1.1 " not in behind:
        return
    head, _, body = behind.partition(b"HTTP/1.1 503 ")[2].partition(b"\r\n\r\n")
    assert b"x-should-retry: false" in head.lower()
    assert b"shutting down" in body


async def test_an_endpoint_that_has_ended_leaves_nothing_to_the_garbage_collector() -> None:
    """Hundreds in a row, as tests have them, would else be looked through again and again."""
    for _ in range(2):  # what is kept from the first one on
        async with serve_endpoint():
            pass
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            async with serve_endpoint():
                pass
        garbage = gc.collect()
    finally:
        gc.enable()
    assert garbage < 10, "less than one thing an endpoint"
