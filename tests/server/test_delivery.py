"""An answer on its way to its connections: what falls silent, what cannot be said, what nobody reads."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.asking import ask_body, connected, raw_request
from tests.server.test_silence import Heard, request_in
from triocept import Exchange, Response, Text, ToolCall, serve_endpoint
from triocept._rollout.answer import Answer, ClientGone, Subscription
from triocept._rollout.outcome import Answered
from triocept._server import delivery
from triocept._server.delivery import KEEPALIVE_EVERY, deliver
from triocept._server.websocket import _Response
from triocept.dialects import dialect
from triocept.types import PartDelta, PartStart, ResponseStart

CHAT, COMPLETIONS = "openai_chat", "openai_completions"
BEGINNING = (ResponseStart("r", "m"), PartStart(0, Text("")), PartDelta(0, "one"))


async def test_an_answer_that_falls_silent_behind_its_first_word_is_kept_alive_as_any_other(
    every_way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "KEEPALIVE_EVERY", 0.1)
    alive = trio.Event()

    async def one_word(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("one")
            await alive.wait()

    async with serve_endpoint() as endpoint, endpoint.open_rollout(one_word) as rollout:
        async with connected(endpoint.port) as agent:
            await agent.send_all(raw_request(rollout, json.dumps(ask_body(stream=True)).encode()))
            heard = b""
            while heard.count(b"data:") < 5:  # two say the word
                heard += await agent.receive_some()
            alive.set()
    assert b"one" in heard


class Blocked(Heard):
    """A connection whose client takes nothing any more once it is `shut`."""

    def __init__(self) -> None:
        super().__init__()
        self.shut = False
        self.waiting = False

    @property
    def full(self) -> bool:
        return self.shut

    def write(self, data: bytes, *, last: bool = False) -> bool:
        super().write(data, last=last)
        return not self.shut

    async def flush(self) -> None:
        self.waiting = True
        await trio.sleep_forever()


async def test_who_hangs_up_before_the_failure_of_an_answer_that_cannot_be_said_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, answer = Blocked(), Answer()
    subscription = Subscription(answer)
    gone = False

    async def reading() -> None:
        nonlocal gone
        try:
            await deliver(subscription, request_in(COMPLETIONS, stream=True), dialect(COMPLETIONS), heard)
        except ClientGone:
            gone = True

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reading)
            for event in BEGINNING:
                await answer.put(event)
            heard.shut = True
            nursery.start_soon(answer.put, PartStart(1, ToolCall("f", "{}", "c")))
            await trio.testing.wait_all_tasks_blocked()
            assert heard.waiting
            subscription.hang_up()
            await trio.testing.wait_all_tasks_blocked()
            assert gone
            assert heard.aborted
            subscription.close()


async def test_a_connection_that_cannot_be_told_an_answer_takes_nothing_of_it_from_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its increments stay: a retry in another form begins at the beginning."""
    answer, retry = Answer(), Heard()
    async with trio.open_nursery() as nursery:
        first = Subscription(answer)

        async def cannot_be_told() -> None:
            await deliver(first, request_in(COMPLETIONS, stream=True), dialect(COMPLETIONS), Heard())
            first.close()

        nursery.start_soon(cannot_be_told)
        for event in (*BEGINNING, PartStart(1, ToolCall("f", "{}", "c"))):
            await answer.put(event)
        await trio.testing.wait_all_tasks_blocked()
        assert not answer.subscriptions
        assert not answer.delivered
        nursery.start_soon(deliver, Subscription(answer), request_in(CHAT, stream=True), dialect(CHAT), retry)
        await trio.testing.wait_all_tasks_blocked()
        answer.end(Answered(Response.of("one")))
    assert b'"one"' in retry.body


async def test_a_no_op_that_a_dialect_cannot_say_is_a_fault_and_nothing_is_written_behind_it(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> bytes:
        raise ValueError("no no-op")

    heard, answer = Heard(), Answer()
    subscription = Subscription(answer)
    renderer = type(dialect(CHAT).stream_renderer(request_in(CHAT, stream=True)))
    monkeypatch.setattr(renderer, "keepalive", fail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver, subscription, request_in(CHAT, stream=True), dialect(CHAT), heard)
        await trio.testing.wait_all_tasks_blocked()
        for event in BEGINNING:
            await answer.put(event)
        await trio.sleep(KEEPALIVE_EVERY + 1)
        nursery.start_soon(answer.put, PartDelta(0, "behind"))
        await trio.testing.wait_all_tasks_blocked()
        assert str(subscription.fault) == "no no-op"
        assert heard.aborted
        assert b"behind" not in heard.body
        subscription.close()


class HalfClosed(Heard):
    """A connection whose client has said that it will send no more: it may have gone, or it may be reading."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        callback()


async def test_who_has_closed_its_half_is_given_an_answer_that_is_there() -> None:
    """A call that comes too late, say, is told so."""
    heard, answer = HalfClosed(), Answer()
    answer.end(Answered(Response.of("one")))
    await deliver(Subscription(answer), request_in(CHAT, stream=False), dialect(CHAT), heard)
    assert b'"one"' in heard.body


async def test_a_websocket_that_nobody_reads_keeps_an_answer_once_and_not_once_for_each_event_that_says_it_all() -> (
    None
):
    outcome = Answered(Response.of("x" * 4_000_000))
    socket: Any = None
    response = _Response(socket, request_in("openai_responses", stream=True), None)
    tracemalloc.start()
    try:
        assert not response.end(outcome)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000, "the answer is kept by its exchange"
