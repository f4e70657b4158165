"""A provider's bytes that go to the agent before they are read: each once, and none forgotten."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.server.test_silence import Heard, request_in
from triocept import PartDelta, PartEnd, PartStart, Response, ResponseEnd, ResponseStart, Text
from triocept._rollout.log import EventLog, Relayed
from triocept._rollout.outcome import Answered
from triocept._server.answer import KEEPALIVE_EVERY, write_answer
from triocept.dialects import dialect

pytestmark = pytest.mark.not_over_http2("it has no connection but its own")

CHAT = "openai_chat"
START = Relayed(b"start;", (ResponseStart("i", "m"), PartStart(0, Text(""))))
END = Relayed(b"end;", (PartEnd(0), ResponseEnd(stop_reason="end")))
ANSWER = Answered(Response.of("ab", stop_reason="end"))


class HalfTaking(Heard):
    """A connection that takes half of what it is given, until it is asked to take the rest."""

    rest = b""

    def can_send_now(self) -> bool:
        return not self.rest

    def send_now(self, data: bytes, *, last: bool) -> bool:
        super().send_now(data[: len(data) // 2], last=False)
        self.rest = data[len(data) // 2 :]
        return False

    async def send_more(self, data: bytes, *, last: bool) -> None:
        rest, self.rest = self.rest, b""
        await super().send_more(rest + data, last=last)


def connect(nursery: trio.Nursery, log: EventLog, heard: Heard, *, stream: bool = True) -> None:
    """Let a connection read the answer."""
    nursery.start_soon(write_answer, log.open_reader(), request_in(CHAT, stream=stream), dialect(CHAT), heard)


@pytest.mark.parametrize(("connection", "stream"), [(Heard, True), (HalfTaking, True), (Heard, False)])
async def test_bytes_that_are_given_early_are_given_once_and_without_a_further_event(
    connection: type[Heard], stream: bool, autojump_clock: trio.testing.MockClock
) -> None:
    heard, log = connection(), EventLog()
    async with trio.open_nursery() as nursery:
        connect(nursery, log, heard, stream=stream)
        await trio.testing.wait_all_tasks_blocked()
        assert not log.write_early(START.data), "the head of the answer goes out with its first event"
        await log.put(START)
        for text in "ab":
            assert log.write_early(f"{text * 10};".encode()) == stream
            await log.put(Relayed(f"{text * 10};".encode(), (PartDelta(0, text),)))
            await trio.testing.wait_all_tasks_blocked()
            assert not stream or heard.body.endswith(f"{text * 10};".encode())
        log.end(ANSWER, END)
    if stream:
        assert heard.body == b"start;aaaaaaaaaa;bbbbbbbbbb;end;"
    else:
        assert b'"ab"' in heard.body


async def test_what_was_given_early_breaks_the_silence(autojump_clock: trio.testing.MockClock) -> None:
    heard, log = Heard(), EventLog()
    async with trio.open_nursery() as nursery:
        connect(nursery, log, heard)
        await trio.testing.wait_all_tasks_blocked()
        await log.put(START)
        for _ in range(10):
            await trio.sleep(KEEPALIVE_EVERY - 1)
            assert log.write_early(b"a;")
            await log.put(Relayed(b"a;", (PartDelta(0, "a"),)))
        log.end(ANSWER, END)
    assert heard.body == b"start;" + b"a;" * 10 + b"end;"


async def test_two_connections_that_read_one_answer_get_nothing_early(
    autojump_clock: trio.testing.MockClock,
) -> None:
    both, log = [Heard(), Heard()], EventLog()
    async with trio.open_nursery() as nursery:
        for heard in both:
            connect(nursery, log, heard)
        await trio.testing.wait_all_tasks_blocked()
        await log.put(START)
        assert not log.write_early(b"a;")
        await log.put(Relayed(b"a;", (PartDelta(0, "a"),)))
        log.end(ANSWER, END)
    assert [heard.body for heard in both] == [b"start;a;end;"] * 2
