"""What an agent leaves ends with its rollout, and takes nothing from another one."""

import json
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.asking import ask, ask_body, connected, echo, raw_request, read_answer, read_to_end
from tests.server.test_websocket_limits import TEXT, call, frame, opened, read_until
from triocept import EndpointLimits, Rollout, serve_endpoint
from triocept._server import admission
from triocept._server.admission import Share, Waiting
from triocept._server.front import HTTPCycle
from triocept._server.listen import open_listener
from triocept._server.transport import STATE_KEY

pytestmark = pytest.mark.usefixtures("every_way")

KB = 1000
PATHS = {
    "a model call": None,
    "token counting": "/v1/messages/count_tokens",
    "a service": "/tools/add",
    "MCP": "/mcp",
}


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[Waiting]:
    """Of each endpoint that is opened."""
    made: list[Waiting] = []

    def make(most: int, seconds: float) -> Waiting:
        made.append(Waiting(most, seconds))
        return made[-1]

    monkeypatch.setattr(admission, "Waiting", make)
    return made


def body(size: int) -> bytes:
    return json.dumps(ask_body("x" * size)).encode()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", ["left", "stopped"])
async def test_half_a_body_ends_with_its_rollout(path: str, how: str, waiting: list[Waiting]) -> None:
    async with serve_endpoint() as endpoint, connected(endpoint.port) as stream:
        async with endpoint.open_rollout(echo, id="a") as rollout:
            await stream.send_all(raw_request(rollout, body(300 * KB), path=PATHS[path])[:-1])
            while not waiting[0].bytes:
                await trio.testing.wait_all_tasks_blocked(0.01)
            if how == "stopped":
                await rollout.stop("enough")
                answer = await read_answer(stream)
        if how == "left":
            answer = await read_answer(stream)
        assert answer.startswith(b"HTTP/1.1 404" if how == "stopped" else b"HTTP/1.1 503")
        assert b"x-should-retry: false" in answer
        assert waiting[0].bytes == 0


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_of_which_nothing_more_comes_is_refused_with_408(
    path: str, waiting: list[Waiting]
) -> None:
    limits = EndpointLimits(body_seconds=0.2)
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(raw_request(rollout, body(KB), path=PATHS[path])[:-1])
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 408")
        assert (await ask(rollout)).status_code == 200
    assert waiting[0].bytes == 0


async def test_half_bodies_of_one_rollout_leave_room_for_another(waiting: list[Waiting]) -> None:
    limits = EndpointLimits(waiting_bytes=1000 * KB)
    async with (
        serve_endpoint(limits=limits) as endpoint,
        endpoint.open_rollout(echo, id="a") as a,
        endpoint.open_rollout(echo, id="b") as b,
        trio.open_nursery() as nursery,
    ):

        async def leave_half(task_status: trio.TaskStatus[None]) -> None:
            async with connected(endpoint.port) as stream:
                await stream.send_all(raw_request(a, body(300 * KB))[:-1])
                await trio.testing.wait_all_tasks_blocked(0.02)
                task_status.started()
                await trio.sleep_forever()

        for _ in range(5):
            await nursery.start(leave_half)
        assert waiting[0].bytes <= 500 * KB
        for size in (100 * KB, 400 * KB, 2000 * KB):  # the last is more than all; but it is the only one
            async with connected(endpoint.port) as stream:
                await stream.send_all(raw_request(b, body(size)))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


async def test_the_first_body_of_a_rollout_has_room_though_a_second_one_comes() -> None:
    rollout: Any = object()
    held = Waiting(100, 1)
    first, second = Share(held, rollout), Share(held, rollout)
    first.add(40)
    second.add(10)
    first.add(60)
    with pytest.raises(Exception, match="too many bytes"):
        second.add(1)
    second.release()
    first.release()
    assert (held.bytes, dict(held.of), held.first) == (0, {}, {})


async def test_messages_without_an_end_are_weighed(waiting: list[Waiting]) -> None:
    limits = EndpointLimits(waiting_bytes=1000 * KB)
    async with serve_endpoint(limits=limits) as endpoint:
        async with (
            endpoint.open_rollout(echo) as rollout,
            opened(endpoint, rollout) as first,
            opened(endpoint, rollout) as second,
        ):
            for stream in (first, second):
                await stream.send_all(frame(b" " * 450 * KB, first=TEXT))
                await trio.testing.wait_all_tasks_blocked(0.05)
            assert 450 * KB <= waiting[0].bytes <= 500 * KB
            await second.send_all(frame(b" ", first=0x80))
            await read_until(second, b'"status":503')
            await second.send_all(call("hi"))  # it stays usable
            await read_until(second, b'"type":"response.completed"')
        while waiting[0].bytes:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def leave_idle(rollout: Rollout, port: int, count: int, nursery: trio.Nursery) -> None:
    """Make a call on each of so many connections, and keep those."""

    async def keep(task_status: trio.TaskStatus[None]) -> None:
        async with connected(port) as stream:
            await stream.send_all(raw_request(rollout, body(1)))
            await read_answer(stream)
            task_status.started()
            await read_to_end(stream)

    for _ in range(count):
        await nursery.start(keep)


async def test_idle_connections_of_a_rollout_that_has_ended_give_way() -> None:
    limits = EndpointLimits(connections=10)
    async with serve_endpoint(limits=limits) as endpoint, trio.open_nursery() as nursery:
        async with endpoint.open_rollout(echo) as a:
            await leave_idle(a, endpoint.port, 10, nursery)
        async with endpoint.open_rollout(echo) as b:
            assert (await ask(b)).status_code == 200
        nursery.cancel_scope.cancel()


async def test_idle_connections_of_a_rollout_that_has_ended_are_closed_after_keyless_seconds() -> None:
    limits = EndpointLimits(keyless_seconds=1)
    async with serve_endpoint(limits=limits) as endpoint:
        async with trio.open_nursery() as nursery, endpoint.open_rollout(echo) as b:
            await leave_idle(b, endpoint.port, 1, nursery)
            async with trio.open_nursery() as of_a, endpoint.open_rollout(echo) as a:
                await leave_idle(a, endpoint.port, 3, of_a)
            # they were closed; and this one was not
            assert (await ask(b)).status_code == 200
            (task,) = nursery.child_tasks
            assert "keep" in task.name
            nursery.cancel_scope.cancel()


async def test_a_connection_that_shows_another_key_stays_with_that() -> None:
    limits = EndpointLimits(keyless_seconds=1)
    async with serve_endpoint(limits=limits) as endpoint, endpoint.open_rollout(echo) as b:
        async with connected(endpoint.port) as stream:
            async with endpoint.open_rollout(echo) as a:
                for rollout in (a, b):
                    await stream.send_all(raw_request(rollout, body(1)))
                    await read_answer(stream)
            await trio.sleep(1.5)
            await stream.send_all(raw_request(b, body(1)))
            assert (await read_answer(stream)).startswith(b"HTTP/1.1 200")


async def test_an_ended_connection_leaves_nothing_with_its_rollout() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        for _ in range(3):
            assert (await ask(rollout)).status_code == 200
        while rollout._core.on_end:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_what_is_accepted_is_kept_alive_by_tcp() -> None:
    """Else a client that vanished would have its connection for ever."""
    async with await open_listener("127.0.0.1", 0) as listener:
        async with await trio.open_tcp_stream(*listener.socket.getsockname()):
            async with await listener.accept() as accepted:
                assert accepted.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE)


async def test_tiny_pieces_of_a_body_weigh_what_they_are() -> None:
    pieces = 100_000

    class Connection:
        gone = False

        async def send_continue(self) -> None: ...
        def note_taken(self, count: int) -> None: ...

    async def receive() -> dict[str, Any]:
        nonlocal pieces
        pieces -= 1
        return {"type": "http.request", "body": bytes(2), "more_body": pieces > 0}

    async def next_piece(receive: Callable[[], Awaitable[Any]], arrived_at: Any) -> Any:
        return await receive()

    scope = {"headers": [(b"transfer-encoding", b"chunked")], "state": {STATE_KEY: Connection()}}
    share: Any = type(
        "Share", (), {"next": staticmethod(next_piece), "add": staticmethod(lambda count: None)}
    )
    cycle = HTTPCycle(scope, receive, receive)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        assert len(await cycle.receive_body(1_000_000, share)) == 200_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
