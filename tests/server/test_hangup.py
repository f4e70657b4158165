"""An agent that hangs up, at every point of a call, in every dialect, under both policies: recorded as what it was.

Over raw sockets: an HTTP client would hide how it hangs up.
"""

import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import PATHS, STREAM_PATHS, connected, document, read_to_end
from triocept import Exchange, Rollout, serve_endpoint
from triocept._rollout.calls import KEPT_ANSWERS
from triocept.dialects import DIALECTS

pytestmark = pytest.mark.usefixtures("every_way")

every_dialect = pytest.mark.parametrize("name", DIALECTS)
both_policies = pytest.mark.parametrize("policy", ["cancel", "finish"])
both_modes = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def call(rollout: Rollout, name: str, text: str = "hi", *, stream: bool = True, more: str = "") -> bytes:
    """A model call as bytes."""
    path = (STREAM_PATHS if stream else PATHS)[name]
    body = json.dumps(document(name, text, stream=stream)).encode()
    head = (
        f"POST /rollout/{rollout.id}{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {rollout.api_key}\r\n"
        f"{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def close(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def reset(stream: trio.SocketStream) -> None:
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def half_close(stream: trio.SocketStream) -> None:
    await stream.send_eof()


ways = pytest.mark.parametrize("hang_up", [close, reset, half_close], ids=["close", "reset", "half-close"])
HangUp = Callable[[trio.SocketStream], Awaitable[None]]


def port_of(rollout: Rollout) -> int:
    return httpx2.URL(rollout.base_url("openai_chat")).port or 0


async def turns(rollout: Rollout, count: int) -> None:
    while len(rollout.trace) < count:
        await trio.testing.wait_all_tasks_blocked(0.005)


class Held:
    """A handler that begins to stream, if it is to, then waits until it is let go, and ends its answer."""

    def __init__(self, *, begin: bool) -> None:
        self.caught, self.cancelled, self.go = trio.Event(), trio.Event(), trio.Event()
        self.calls = 0
        self._begin = begin

    async def __call__(self, exchange: Exchange) -> None:
        self.calls += 1
        try:
            if self._begin:
                async with exchange.open_stream() as stream:
                    await stream.send("hel")
                    self.caught.set()
                    await self.go.wait()
                    await stream.send("lo")
            else:
                self.caught.set()
                await self.go.wait()
                await exchange.respond("hello")
        except trio.Cancelled:
            self.cancelled.set()
            raise


async def check_end(held: Held, rollout: Rollout, policy: str, name: str, *, stream: bool) -> None:
    """What must hold after a hang-up while the handler was at work."""
    if policy == "cancel":
        await held.cancelled.wait()
        await turns(rollout, 1)
        assert [turn.outcome for turn in rollout.trace] == ["abandoned"]
        error = rollout.trace[0].error
        assert error.type == "ExchangeAbandoned"
        return
    while rollout._core.calls.connections:  # until the server has noticed it
        await trio.testing.wait_all_tasks_blocked(0.005)
    held.go.set()
    await turns(rollout, 1)
    assert [turn.outcome for turn in rollout.trace] == ["answered"]
    async with connected(port_of(rollout)) as again:
        await again.send_all(call(rollout, name, stream=stream, more="Connection: close\r\n"))
        assert b"lo" in await read_to_end(again)
    assert len(rollout.trace) == held.calls == 1, "the retry got the answer that was kept"


@every_dialect
@both_policies
@ways
async def test_before_its_call_is_whole_it_has_asked_nothing(name: str, policy: Any, hang_up: HangUp) -> None:
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(Held(begin=False), on_hangup=policy) as rollout:
            data = call(rollout, name)
            for cut in (20, len(data) - 40, len(data) - 1):
                async with connected(endpoint.port) as stream:
                    await stream.send_all(data[:cut])
                    await trio.testing.wait_all_tasks_blocked(0.002)
                    await hang_up(stream)
                    await trio.testing.wait_all_tasks_blocked(0.002)
            assert not rollout._core.calls.open
    assert len(rollout.trace) == 0


@every_dialect
@both_policies
async def test_before_anybody_has_taken_its_call_it_is_abandoned(name: str, policy: Any) -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(on_hangup=policy) as rollout:
        async with connected(endpoint.port) as stream:
            await stream.send_all(call(rollout, name))
            while not rollout._core.calls.open:
                await trio.testing.wait_all_tasks_blocked(0.002)
        await turns(rollout, 1)
        assert [turn.outcome for turn in rollout.trace] == ["abandoned"]


@every_dialect
@both_policies
@both_modes
@ways
async def test_while_it_waits(name: str, policy: Any, stream: bool, hang_up: HangUp) -> None:
    held = Held(begin=False)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(held, on_hangup=policy) as rollout:
        async with connected(endpoint.port) as agent:
            await agent.send_all(call(rollout, name, stream=stream))
            await held.caught.wait()
            await hang_up(agent)
            await check_end(held, rollout, policy, name, stream=stream)


@every_dialect
@both_policies
@ways
async def test_in_mid_stream(name: str, policy: Any, hang_up: HangUp) -> None:
    held = Held(begin=True)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(held, on_hangup=policy) as rollout:
        async with connected(endpoint.port) as agent:
            await agent.send_all(call(rollout, name))
            await held.caught.wait()
            await agent.receive_some()
            await hang_up(agent)
            await check_end(held, rollout, policy, name, stream=True)
    response = rollout.trace[0].response
    assert response.text == ("hel" if policy == "cancel" else "hello"), "as much as was sent is in the turn"


@every_dialect
@both_policies
@both_modes
@ways
async def test_after_the_end_of_its_answer_it_has_been_answered(
    name: str, policy: Any, stream: bool, hang_up: HangUp, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("hello")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer, on_hangup=policy) as rollout:
        for _ in range(2):
            async with connected(endpoint.port) as agent:
                await agent.send_all(call(rollout, name, stream=stream))
                data = b""
                while b"hello" not in data:
                    data += await agent.receive_some()
                await hang_up(agent)
    assert [turn.outcome for turn in rollout.trace] == ["answered"] * 2, "the second is no retry"
    assert not caplog.records


@every_dialect
@both_policies
@ways
async def test_with_another_request_behind_the_one_that_waits(
    name: str, policy: Any, hang_up: HangUp
) -> None:
    held = Held(begin=False)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(held, on_hangup=policy) as rollout:
        async with connected(endpoint.port) as agent:
            await agent.send_all(
                call(rollout, name, stream=False) + call(rollout, name, "behind", stream=False)
            )
            await held.caught.wait()
            await trio.testing.wait_all_tasks_blocked(0.005)
            await hang_up(agent)
            await check_end(held, rollout, policy, name, stream=False)
    assert [turn.request.last.text for turn in rollout.trace if turn.request.last] == ["hi"]


@every_dialect
async def test_a_pipelined_request_is_answered_after_the_one_before_it_however_it_is_split(name: str) -> None:
    async def echo(exchange: Exchange) -> None:
        await trio.testing.wait_all_tasks_blocked(0.001)
        await exchange.respond(f"<{exchange.request.last.text}>")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as rollout:
        data = b"".join(call(rollout, name, text, stream=False) for text in ("one", "two", "three"))
        for step in (len(data), 700, 90):
            async with connected(endpoint.port) as agent, trio.open_nursery() as nursery:

                @nursery.start_soon
                async def send(agent: trio.SocketStream = agent, step: int = step) -> None:
                    for start in range(0, len(data), step):
                        await agent.send_all(data[start : start + step])
                        await trio.lowlevel.checkpoint()

                seen = b""
                while b"<three>" not in seen:
                    seen += await agent.receive_some()
            assert seen.index(b"<one>") < seen.index(b"<two>") < seen.index(b"<three>")
    assert len(rollout.trace) == 9


async def test_what_is_kept_for_retries_is_bounded() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("x")

    async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
        async with connected(endpoint.port) as agent:
            for number in range(KEPT_ANSWERS + 20):
                await agent.send_all(call(rollout, "openai_chat", f"call {number}", stream=False))
                assert await agent.receive_some()
        assert len(list(rollout._core.calls._latest)) == KEPT_ANSWERS
