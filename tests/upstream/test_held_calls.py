"""A tool call of an answer that broke is never run: no agent sees any of it before the answer is whole.

The agent here speaks the provider's own dialect unless a test says otherwise: its bytes are the provider's.
"""

from collections.abc import Iterable
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from triocept import EndpointLimits, Exchange, Request, Response, Text, ToolCall, UpstreamError
from triocept._server import delivery
from triocept._upstream.relay import Relay
from triocept.dialects import DIALECTS
from triocept.types import Event, PartDelta, events_of

from .conftest import ask_roughly, staged
from .provider import CHAT, END, GEMINI, MESSAGES, RESPONSES, USAGE, Asked, chunk, head, split, wire_stream

CALLING = (CHAT, RESPONSES, MESSAGES, GEMINI)
"""The dialects that have tool calls."""
NAME, ARGUMENT = "write_file", "proof.txt"


def answer_of(dialect: str) -> Response:
    parts = (Text("I will look."), ToolCall(NAME, f'{{"path":"{ARGUMENT}"}}', "call_1"))
    return Response(parts, id="id-1", model="m-1", dialect=dialect, usage=USAGE)


def cut(pieces: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The pieces before the first one that names the tool, and the others."""
    number = next(number for number, piece in enumerate(pieces) if NAME.encode() in piece)
    return pieces[:number], pieces[number:]


@pytest.mark.parametrize("dialect", CALLING)
async def test_no_byte_of_a_call_comes_before_the_answer_is_whole(dialect: str) -> None:
    pieces, whole = wire_stream(dialect, answer_of(dialect)), trio.Event()
    before, calling = cut(pieces)
    *calling, end = calling
    seen = b""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        for piece in [*before, *calling]:
            await stream.send_all(chunk(piece))
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert b"ok." in seen
        assert NAME.encode() not in seen
        whole.set()
        await stream.send_all(chunk(end) + END)

    async with staged(answer, dialect) as stage, stage.asking(dialect, stream=True) as answered:
        async for data in answered.aiter_raw():
            seen += data
    assert whole.is_set()
    assert seen == b"".join(pieces)
    (turn,) = stage.rollout.trace
    assert turn.response.tool_calls[0].parsed() == {"path": ARGUMENT}


@pytest.mark.parametrize("agent", CALLING)
@pytest.mark.parametrize("dialect", CALLING)
async def test_wherever_the_answer_is_cut_the_agent_has_seen_nothing_of_its_call(
    dialect: str, agent: str
) -> None:
    before, calling = cut(wire_stream(dialect, answer_of(dialect)))
    for kept in range(len(calling)):

        async def answer(asked: Asked, stream: trio.SocketStream, kept: int = kept) -> None:
            await stream.send_all(head() + b"".join(map(chunk, [*before, *calling[:kept]])))
            await stream.aclose()

        async with staged(answer, dialect) as stage:
            data, complete = await ask_roughly(stage, agent)
        assert NAME.encode() not in data
        assert not complete
        assert stage.rollout.trace[0].outcome == "refused"


async def test_the_turn_of_an_answer_that_broke_has_what_came_of_its_call() -> None:
    before, calling = cut(wire_stream(MESSAGES, answer_of(MESSAGES)))

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, [*before, *calling[:3]])))
        await stream.aclose()

    async with staged(answer, MESSAGES) as stage:
        await ask_roughly(stage, MESSAGES)
    (turn,) = stage.rollout.trace
    (call,) = turn.response.tool_calls
    assert call.name == NAME
    assert '{"path":"proof.txt"}'.startswith(call.arguments)


@pytest.mark.parametrize("agent", [MESSAGES, CHAT])
async def test_a_call_can_be_seen_while_it_is_written_where_that_is_wanted(agent: str) -> None:
    pieces, seen = wire_stream(MESSAGES, answer_of(MESSAGES)), trio.Event()
    *begun, end = pieces

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, begun)))
        await seen.wait()
        await stream.send_all(chunk(end) + END)

    data = b""
    async with staged(answer, MESSAGES, hold_calls=False) as stage:
        async with stage.asking(agent, stream=True) as answered:
            async for piece in answered.aiter_raw():
                data += piece
                if NAME.encode() in data:
                    seen.set()
    assert seen.is_set()
    if agent == MESSAGES:
        assert data == b"".join(pieces)


@pytest.mark.parametrize("agent", CALLING)
async def test_a_handlers_own_call_waits_for_the_end_too(agent: str) -> None:
    """What was no more than begun stays in some agents' history, and the next call tells of it."""

    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for event in _but_the_end(events_of(answer_of(agent))):
                await stream.send(event)
            raise UpstreamError("it broke")

    with trio.fail_after(30):
        async with staged(_never, agent, handler=handler) as stage:
            data, complete = await ask_roughly(stage, agent)
    assert b"look." in data
    assert NAME.encode() not in data
    assert not complete


@pytest.mark.parametrize("relayed", [True, False])
@pytest.mark.parametrize("agent", CALLING)
async def test_the_silence_of_a_call_that_is_held_is_filled(
    agent: str, relayed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", 0.05)
    before, calling = cut(wire_stream(agent, answer_of(agent)))
    filled = trio.Event()

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, before)))
        for piece in calling[:-1]:  # the provider is not silent
            await stream.send_all(chunk(piece))
            await trio.sleep(0.02)
        await filled.wait()
        await stream.send_all(chunk(calling[-1]) + END)

    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            for event in split(events_of(answer_of(agent))):
                await stream.send(event)
                if isinstance(event, PartDelta) and ARGUMENT[:2] in event.text:
                    await filled.wait()

    data = b""
    async with staged(answer, agent, handler=None if relayed else handler) as stage:
        async with stage.asking(agent, stream=True) as answered:
            async for piece in answered.aiter_raw():
                data += piece
                if FILLING[agent] in data.partition(b"ok.")[2]:
                    filled.set()
    assert filled.is_set()
    assert NAME.encode() in data


async def test_a_call_is_held_too_where_a_filling_was_sent_before_the_answer_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The agent gets no bytes of the provider then, for it knows the answer by another id."""
    monkeypatch.setattr(delivery, "HEAD_AFTER", 0.05)
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", 0.05)
    before, calling = cut(wire_stream(MESSAGES, answer_of(MESSAGES)))
    filled, data = trio.Event(), b""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head())
        await filled.wait()
        await stream.send_all(b"".join(map(chunk, [*before, *calling[:-1]])))
        while b"ok." not in data:
            await trio.testing.wait_all_tasks_blocked(0.005)
        await trio.testing.wait_all_tasks_blocked(0.005)
        await stream.aclose()

    async with staged(answer, MESSAGES) as stage, stage.asking(MESSAGES, stream=True) as answered:
        with pytest.raises(httpx2.RemoteProtocolError):
            async for piece in answered.aiter_raw():
                data += piece
                filled.set()
    assert NAME.encode() not in data


FILLING = {
    CHAT: b'"delta":{}',
    RESPONSES: b"event: keepalive",
    MESSAGES: b"event: ping",
    GEMINI: b'{"candidates": []}',
}
"""What fills a silence."""


def _but_the_end(events: Iterable[Event]) -> list[Event]:
    return list(events)[:-1]


async def _never(asked: Asked, stream: trio.SocketStream) -> None:
    raise AssertionError("nobody asks the provider")


async def test_what_waits_is_bounded() -> None:
    before, calling = cut(wire_stream(MESSAGES, answer_of(MESSAGES)))
    delta = next(piece for piece in calling if b"input_json_delta" in piece)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, [*before, calling[0]])))
        while True:
            await stream.send_all(chunk(delta * 100))

    async with staged(answer, MESSAGES, limits=EndpointLimits(answer_bytes=100_000)) as stage:
        data, complete = await ask_roughly(stage, MESSAGES)
    assert NAME.encode() not in data
    assert not complete
    error = stage.rollout.trace[0].error
    assert "100000 bytes" in error.message


async def test_what_waits_is_bounded_though_its_provider_sends_few_and_large_pieces() -> None:
    def pieces_of(arguments: str) -> list[bytes]:
        response = Response((ToolCall(NAME, arguments, "call_1"),), id="id-1", dialect=MESSAGES, usage=USAGE)
        renderer = DIALECTS[MESSAGES].stream_renderer(Request(dialect=MESSAGES, model="m", messages=()))
        return [renderer.render(event) for event in events_of(response)]

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + b"".join(map(chunk, pieces_of('{"a":"' + "x" * 300_000 + '"}'))) + END)

    async with staged(answer, MESSAGES, limits=EndpointLimits(answer_bytes=100_000_000)) as stage:
        assert (await ask_roughly(stage, MESSAGES))[1]
    async with staged(answer, MESSAGES, limits=EndpointLimits(answer_bytes=100_000)) as stage:
        assert not (await ask_roughly(stage, MESSAGES))[1]
    error = stage.rollout.trace[0].error
    assert "with hold_calls, triocept can store at most 100000 bytes" in error.message


@pytest.mark.parametrize("dialect", CALLING)
def test_a_call_never_goes_on_before_it_is_read(dialect: str) -> None:
    pieces: list[Any] = wire_stream(dialect, answer_of(dialect))
    relay = Relay(DIALECTS[dialect].stream_parser(), hold_calls=True)
    passed = []
    for piece in pieces:
        if relay.is_plain_content(piece):
            passed.append(piece)
        relay.feed(piece)
    assert passed
    assert not any(NAME.encode() in piece or b"function_call" in piece for piece in passed)
