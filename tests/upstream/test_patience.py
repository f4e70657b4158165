"""How long a provider is waited for, and what a connection that it has closed costs."""

import socket
from functools import partial
from typing import Any

import pytest
import trio

from triocept import EndpointLimits, Exchange, Response, Text, UpstreamError
from triocept._upstream.patience import Patience

from .conftest import ask_roughly, staged
from .provider import CHAT, END, GEMINI, MESSAGES, RESPONSES, USAGE, Asked, answers, chunk, head, wire_stream

NOISE = {
    CHAT: b": still here\n\n",
    RESPONSES: b'event: response.in_progress\ndata: {"type":"response.in_progress","response":{}}\n\n',
    MESSAGES: b'event: ping\ndata: {"type":"ping"}\n\n',
    GEMINI: b'data: {"candidates": []}\n\n',
}
"""What a provider says that has nothing to say."""


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("dialect", NOISE)
async def test_comments_and_pings_are_silence(dialect: str, begun: bool) -> None:
    pieces = wire_stream(dialect)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, pieces[: 3 if begun else 0])))
        while True:
            await stream.send_all(chunk(NOISE[dialect]))
            await trio.sleep(0.01)

    with trio.fail_after(30):
        async with staged(answer, dialect, read_timeout=1.5 if begun else 0.4) as stage:
            _, complete = await ask_roughly(stage, dialect)
            assert complete is not (begun or dialect == RESPONSES)  # whose no-op begins an answer
    error = stage.rollout.trace[0].error
    assert error.status == 504


@pytest.mark.parametrize("limits", [{"upstream_idle_seconds": 0.1}, {"upstream_seconds": 0.1}])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_endpoint_loses_patience_where_its_upstream_has_no_time_of_its_own(
    limits: dict[str, float], stream: bool
) -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(30):
        async with staged(answer, CHAT, limits=EndpointLimits(**limits)) as stage:
            assert (await stage.ask(CHAT, stream=stream)).status_code == 504


async def test_an_upstreams_own_times_win_over_its_endpoints() -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await trio.sleep(0.3)
        await answers(CHAT)(asked, stream)

    limits = EndpointLimits(upstream_seconds=0.1, upstream_idle_seconds=0.1)
    async with staged(answer, CHAT, limits=limits, read_timeout=50, total_timeout=50) as stage:
        assert (await stage.ask(CHAT)).status_code == 200


async def test_a_provider_that_speaks_now_and_then_is_waited_for() -> None:
    pieces = wire_stream(CHAT)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        for piece in pieces:
            await stream.send_all(chunk(piece))
            await trio.sleep(0.5)
        await stream.send_all(END)

    async with staged(answer, CHAT, read_timeout=2.5) as stage:
        answered = await stage.ask(CHAT, stream=True)
    assert answered.content == b"".join(pieces)


@pytest.mark.once
@pytest.mark.parametrize("dialect", [CHAT, "anthropic_messages"])
async def test_an_agent_that_reads_slowly_is_no_fault_of_the_provider(dialect: str) -> None:
    large = Response((Text("x" * 20_000_000),), dialect=CHAT, id="i", model="m", usage=USAGE)
    renderer_pieces = wire_stream(CHAT, large)
    data = b"".join(renderer_pieces[:2])
    text = b'data: {"id":"i","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (b"x" * 3_000_000)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(data))
        for _ in range(6):
            await stream.send_all(chunk(text))
        await stream.send_all(b"".join(map(chunk, renderer_pieces[-2:])) + END)

    async with staged(answer, CHAT, read_timeout=3) as stage:
        size = 0
        async with stage.asking(dialect, stream=True) as answered:
            await trio.sleep(5)
            async for piece in answered.aiter_raw():
                size += len(piece)
    assert size > 18_000_000
    assert stage.rollout.trace[0].outcome == "answered"


async def test_a_stream_that_ran_out_of_time_is_settled_and_no_other_upstream_is_asked() -> None:
    others: list[Exchange] = []

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(wire_stream(CHAT)[:3])))
        await trio.sleep_forever()

    async def handler(exchange: Exchange) -> None:
        try:
            await upstreams[0](exchange)
        except UpstreamError:
            assert exchange.settled
            others.append(exchange)

    upstreams: list[Any] = []
    with trio.fail_after(30):
        async with staged(answer, CHAT, handler=handler, read_timeout=1.5) as stage:
            upstreams.append(stage.upstream)
            data, complete = await ask_roughly(stage, CHAT)
    assert b"Hel" in data
    assert not complete
    assert len(others) == 1


async def test_a_try_without_a_head_is_tried_again() -> None:
    first = True

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        nonlocal first
        if first:
            first = False
            await trio.sleep_forever()
        await answers(CHAT)(asked, stream)

    async with staged(answer, CHAT, read_timeout=2, retries=1) as stage:
        assert (await stage.ask(CHAT)).status_code == 200
    assert len(stage.provider.asked) == 2


async def test_the_deadline_is_not_moved_for_every_event(autojump_clock: trio.testing.MockClock) -> None:
    patience = Patience(None, 50.0)
    patience.pause(False)
    first = patience.scope.deadline
    await trio.sleep(0.5)
    patience.reset()
    assert patience.scope.deadline == first
    await trio.sleep(0.6)
    patience.reset()
    assert patience.scope.deadline > first
    patience.stop()
    assert patience.scope.deadline == float("inf")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_used_connection_that_breaks_before_the_answer_costs_no_error(
    stream: bool, reset: bool
) -> None:
    dropped = 0
    good = answers(CHAT)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        nonlocal dropped
        if stream in seen:  # the second request of a connection: the server was just closing it
            dropped += 1
            if reset:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await trio.aclose_forcefully(stream)
            return
        seen.append(stream)
        await good(asked, stream)

    seen: list[trio.SocketStream] = []
    async with staged(answer, CHAT) as stage:
        for _ in range(3):
            assert (await stage.ask(CHAT, stream=stream)).status_code == 200
    assert dropped >= 1
    assert [turn.outcome for turn in stage.rollout.trace] == ["answered"] * 3


async def test_a_connection_that_breaks_in_the_answer_or_at_once_is_an_error() -> None:
    async def answer(how: bytes, asked: Asked, stream: trio.SocketStream) -> None:
        if len(stage.provider.asked) == 1:
            await answers(CHAT)(asked, stream)
            return
        if how:
            await stream.send_all(how)
        await stream.aclose()

    async with staged(partial(answer, b"HTTP/1.1 200"), CHAT) as stage:  # begun
        assert (await stage.ask(CHAT)).status_code == 200
        assert (await stage.ask(CHAT)).status_code == 502
        assert len(stage.provider.asked) == 2
    async with staged(partial(answer, b""), CHAT) as stage:  # the fresh one, too
        assert (await stage.ask(CHAT)).status_code == 200
        assert (await stage.ask(CHAT)).status_code == 502
        assert len(stage.provider.asked) == 3


async def test_a_fresh_connection_that_breaks_at_once_is_not_tried_again() -> None:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.aclose()

    async with staged(answer, CHAT) as stage:
        assert (await stage.ask(CHAT)).status_code == 502
    assert len(stage.provider.asked) == 1
