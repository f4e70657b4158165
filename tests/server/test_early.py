"""A provider's bytes that go to the agent before they are read: each once, and none forgotten."""

import pytest
import trio
import trio.testing

from tests.server.test_silence import Heard, request_in
from triocept import Response, Text, ToolCall
from triocept._rollout.answer import Answer, Relayed, Subscription
from triocept._rollout.outcome import Answered
from triocept._server.delivery import KEEPALIVE_EVERY, deliver
from triocept.dialects import dialect
from triocept.types import PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart

CHAT, COMPLETIONS = "openai_chat", "openai_completions"
START = Relayed(b"start;", (ResponseStart("i", "m"), PartStart(0, Text(""))))
END = Relayed(b"end;", (PartEnd(0), ResponseEnd(stop_reason="end")))
ANSWER = Answered(Response.of("ab", stop_reason="end"))


class HalfTaking(Heard):
    """A connection that takes half of what it is given, until it is asked to take the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = b""
        self.last = False

    @property
    def full(self) -> bool:
        return bool(self.rest)

    def write(self, data: bytes, *, last: bool = False) -> bool:
        assert not self.rest
        super().write(data[: len(data) // 2], last=False)
        self.rest, self.last = data[len(data) // 2 :], last
        return False

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        rest, self.rest = self.rest, b""
        super().write(rest, last=self.last)


def connect(nursery: trio.Nursery, answer: Answer, heard: Heard, *, stream: bool = True) -> None:
    """Let a connection read the answer."""
    nursery.start_soon(deliver, Subscription(answer), request_in(CHAT, stream=stream), dialect(CHAT), heard)


@pytest.mark.parametrize(("connection", "stream"), [(Heard, True), (HalfTaking, True), (Heard, False)])
async def test_bytes_that_are_given_early_are_given_once_and_without_a_further_event(
    connection: type[Heard], stream: bool, autojump_clock: trio.testing.MockClock
) -> None:
    heard, answer = connection(), Answer()
    async with trio.open_nursery() as nursery:
        connect(nursery, answer, heard, stream=stream)
        await trio.testing.wait_all_tasks_blocked()
        assert not answer.write_early(START.data), "the head of the answer goes out with its first event"
        await answer.put(START)
        await trio.testing.wait_all_tasks_blocked()  # what is full takes nothing early
        for text in "ab":
            assert answer.write_early(f"{text * 10};".encode()) == stream
            await answer.put(Relayed(f"{text * 10};".encode(), (PartDelta(0, text),)))
            await trio.testing.wait_all_tasks_blocked()
            assert not stream or heard.body.endswith(f"{text * 10};".encode())
        answer.end(ANSWER, END)
    if stream:
        assert heard.body == b"start;aaaaaaaaaa;bbbbbbbbbb;end;"
    else:
        assert b'"ab"' in heard.body


async def test_what_was_given_early_breaks_the_silence(autojump_clock: trio.testing.MockClock) -> None:
    heard, answer = Heard(), Answer()
    async with trio.open_nursery() as nursery:
        connect(nursery, answer, heard)
        await trio.testing.wait_all_tasks_blocked()
        await answer.put(START)
        for _ in range(10):
            await trio.sleep(KEEPALIVE_EVERY - 1)
            assert answer.write_early(b"a;")
            await answer.put(Relayed(b"a;", (PartDelta(0, "a"),)))
        answer.end(ANSWER, END)
    assert heard.body == b"start;" + b"a;" * 10 + b"end;"


async def test_two_connections_that_read_one_answer_get_nothing_early(
    autojump_clock: trio.testing.MockClock,
) -> None:
    both, answer = [Heard(), Heard()], Answer()
    async with trio.open_nursery() as nursery:
        for heard in both:
            connect(nursery, answer, heard)
        await trio.testing.wait_all_tasks_blocked()
        await answer.put(START)
        assert not answer.write_early(b"a;")
        await answer.put(Relayed(b"a;", (PartDelta(0, "a"),)))
        answer.end(ANSWER, END)
    assert [heard.body for heard in both] == [b"start;a;end;"] * 2


async def test_a_connection_that_cannot_say_the_answer_gets_nothing_early_behind_its_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is being broken off, which may take a moment; the provider goes on meanwhile."""
    heard, answer = Heard(), Answer()
    subscription = Subscription(answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            deliver, subscription, request_in(COMPLETIONS, stream=True), dialect(COMPLETIONS), heard
        )
        await trio.testing.wait_all_tasks_blocked()
        await answer.put(START)
        nursery.start_soon(answer.put, PartStart(1, ToolCall("f", "{}", "c")))
        await trio.testing.wait_all_tasks_blocked()
        assert heard.aborted
        assert not answer.write_early(b"a;")
        assert not heard.body.endswith(b"a;")
        subscription.close()
