"""The server in memory: an endpoint's own code, over a connection without a socket, in a clock that jumps."""

from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from triocept import Exchange, UpstreamError
from triocept.testing import MemoryAgent, open_memory_agent, open_rollout
from triocept.testing._memory.http import MemoryHTTPTransport
from triocept.testing._memory.stream import MemoryStream, memory_stream_pair

MockClock = trio.testing.MockClock


def http_of(agent: MemoryAgent) -> httpx2.AsyncClient:
    """An HTTP client of the agent's server."""
    headers = {"authorization": f"Bearer {agent.rollout.api_key}"}
    transport = MemoryHTTPTransport(agent._begin)
    return httpx2.AsyncClient(transport=transport, base_url="http://memory", headers=headers, timeout=5)


# The connection


async def pair() -> tuple[MemoryStream, MemoryStream]:
    return memory_stream_pair()


async def test_a_connection_is_what_trio_asks_of_one() -> None:
    await trio.testing.check_two_way_stream(pair, pair)


async def test_its_half_that_is_closed_leaves_the_other_open() -> None:
    one, other = memory_stream_pair()
    await one.send_eof()
    assert await other.receive_some(9) == b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.send_all, b"a")
        assert await one.receive_some(9) == b"a"


async def test_a_sender_waits_for_a_peer_that_does_not_read(autojump_clock: MockClock) -> None:
    one, other = memory_stream_pair()
    with trio.move_on_after(3600) as scope:
        await one.send_all(b"a")
    assert scope.cancelled_caught
    assert await other.receive_some(9) == b"a"


async def test_a_reset_is_no_end() -> None:
    one, other = memory_stream_pair()
    one.socket.setsockopt()
    one.close()
    with pytest.raises(trio.BrokenResourceError, match="reset"):
        await other.receive_some(9)


# The server


async def test_hours_of_virtual_time_end_no_connection(autojump_clock: MockClock) -> None:
    async def after_a_day(exchange: Exchange) -> None:
        await trio.sleep(86_400)
        await exchange.respond("late")

    async with open_memory_agent(after_a_day) as agent:
        await trio.sleep(86_400)
        assert (await agent.ask("hello")).text == "late"
        await trio.sleep(86_400)
        assert (await agent.ask("hello", stream=True)).text == "late"
    assert trio.current_time() == 4 * 86_400
    assert {call.end for call in agent.calls} == {"whole"}


async def test_a_body_that_is_never_whole_is_waited_for(autojump_clock: MockClock) -> None:
    """An endpoint would refuse it with 408 after a minute."""
    async with open_memory_agent(never) as agent:
        own, peer = memory_stream_pair()
        agent._accept(peer)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {agent.rollout.api_key}\r\n"
        await own.send_all(f"{head}Content-Length: 9\r\n\r\n{{".encode())
        with trio.move_on_after(86_400) as scope:
            await own.receive_some(1)
        assert scope.cancelled_caught
        own.close()


async def never(exchange: Exchange) -> None:
    await trio.sleep_forever()


async def test_health_and_refusals_are_the_endpoints_own(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_memory_agent(never) as agent, http_of(agent) as http:
        health = await http.get("/health")
        assert health.json() == {"status": "ok", "rollouts": 1, "endpoint": "memory"}
        assert (await http.get("/v1/nowhere")).status_code == 404
        assert (await http.get("/v1/chat/completions")).status_code == 405
        wrong = await http.get("/v1/models", headers={"authorization": "Bearer sk-wrong"})
        assert wrong.status_code == 401
        chunked = await http.post("/v1/chat/completions", content=pieces(b'{"messages', b'": 3}'))
        assert (chunked.status_code, "is missing" in chunked.text) == (400, True)
    assert trio.current_time() == 0


async def pieces(*data: bytes) -> Any:
    for piece in data:
        yield piece


async def test_a_tool_is_called_and_a_hang_up_cancels_it(autojump_clock: MockClock) -> None:
    cancelled: list[str] = []

    async def add(a: int, b: int) -> int:
        return a + b

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append("wait")
            raise

    async with open_memory_agent(never, tools=[add, wait]) as agent, http_of(agent) as http:
        added = await http.post("/tools/add", json={"arguments": {"a": 1, "b": 2}})
        assert added.json()["result"] == 3
        with pytest.raises(httpx2.ReadTimeout):
            await http.post("/tools/wait", json={"arguments": {}})
        await trio.testing.wait_all_tasks_blocked()
        assert cancelled == ["wait"]
    assert trio.current_time() == 5


async def test_an_early_refusal_is_read_whole_though_the_body_is_large(autojump_clock: MockClock) -> None:
    document = {"model": "m", "messages": [], "user": "x" * 5_000_000}
    async with open_memory_agent(never) as agent:
        with pytest.raises(UpstreamError) as raised:
            await agent.ask(document, headers={"Authorization": "Bearer sk-wrong"})
    assert raised.value.status == 401
    assert trio.current_time() == 0


async def test_ctrl_c_in_a_handler_leaves_the_block(autojump_clock: MockClock) -> None:
    async def interrupted(exchange: Exchange) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with open_memory_agent(interrupted) as agent:
            await agent.ask("hello")


async def test_a_cancelled_block_waits_for_no_answer(autojump_clock: MockClock) -> None:
    async with open_rollout(never) as rollout:
        with trio.move_on_after(7) as scope:
            async with open_memory_agent(rollout) as agent:
                await agent.ask("hello")
        assert scope.cancelled_caught
        assert trio.current_time() == 7
        await trio.testing.wait_all_tasks_blocked()
        assert [turn.outcome for turn in rollout.trace] == ["abandoned"]
    assert agent.calls[0].end == "hung up"


async def test_a_header_that_cannot_be_sent_is_an_error_of_the_call(autojump_clock: MockClock) -> None:
    async with open_memory_agent(never) as agent:
        with pytest.raises(ValueError, match="cannot be sent"):
            await agent.ask("hello", headers={"x-a": "b\r\nc"})
    assert agent.calls == []
