"""A model that takes its time: what an agent gets meanwhile, under a mock clock, in every dialect."""

import json
from collections.abc import Callable, Mapping

import msgspec
import pytest
import trio
import trio.testing

from triocept import Message, Refusal, Request, Response, Text
from triocept._rollout.answer import Answer, Condition, Subscription
from triocept._rollout.outcome import Answered, Refused
from triocept._server.admission import Share
from triocept._server.delivery import HEAD_AFTER, KEEPALIVE_EVERY, deliver
from triocept._server.transport import Reply
from triocept.dialects import DIALECTS, dialect
from triocept.types import PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart


class Heard:
    """A transport that notes what it is given, and when."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.pieces: list[tuple[float, bytes]] = []
        self.ended = False
        self.aborted = False

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        assert self.status is None
        self.status = status

    def write(self, data: bytes, *, last: bool = False) -> bool:
        assert not self.ended
        self.pieces.append((trio.current_time(), data))
        self.ended = last
        return True

    def respond(self, reply: Reply) -> bool:
        self.start(reply.status, reply.headers)
        return self.write(reply.body, last=True)

    async def wait(self, news: Condition, until: float) -> None:
        with trio.CancelScope(deadline=until):
            await news.wait()

    @property
    def full(self) -> bool:
        return False

    async def flush(self) -> None:
        raise AssertionError

    def on_gone(self, callback: Callable[[], None]) -> None:
        """It never is."""

    async def abort(self) -> None:
        self.aborted = True

    async def receive_body(self, cap: int, share: Share) -> bytes:
        raise AssertionError

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.pieces)


ANSWER = Response.of("hello", stop_reason="end")


def request_in(name: str, *, stream: bool) -> Request:
    return Request(dialect=name, model="m", messages=(Message("user", (Text("hi"),)),), stream=stream)


async def play(
    name: str, *, stream: bool, silence: float, outcome: Answered | Refused, events: bool
) -> Heard:
    """An answer that comes after `silence` seconds: as events, or whole."""
    heard, answer, request = Heard(), Answer(), request_in(name, stream=stream)
    subscription = Subscription(answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver, subscription, request, dialect(name), heard)
        await trio.sleep(silence)
        if events:
            for event in (ResponseStart("r", "m"), PartStart(0, Text("")), PartDelta(0, "hel")):
                await answer.put(event)
            await trio.sleep(25)
            await answer.put(PartDelta(0, "lo"))
            await answer.put(PartEnd(0))
        answer.end(
            outcome, ResponseEnd(stop_reason="end") if events and isinstance(outcome, Answered) else None
        )
    return heard


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("events", [True, False])
async def test_a_silent_stream_is_kept_alive_by_the_dialects_own_no_ops(
    name: str, events: bool, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    heard = await play(name, stream=True, silence=65, outcome=Answered(ANSWER), events=events)
    times = [round(at - start) for at, _ in heard.pieces]
    assert heard.status == 200
    assert times[:4] == [HEAD_AFTER, HEAD_AFTER + KEEPALIVE_EVERY, HEAD_AFTER + 2 * KEEPALIVE_EVERY, 60]
    assert heard.ended
    assert not heard.aborted
    assert not any(line.startswith(b":") for line in heard.body.splitlines()), "SSE comments kill gemini-cli"
    if events:
        assert len([at for at in times if 65 < at < 90]) == 2, "kept alive in mid-stream, too"
    parser = dialect(name).stream_parser()
    found = [*parser.feed(heard.body), *parser.close()]
    text = "".join(event.text for event in found if isinstance(event, PartDelta))
    assert text == "hello"
    assert isinstance(found[-1], ResponseEnd)


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_late_document_has_white_space_before_it(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    heard = await play(name, stream=False, silence=305, outcome=Answered(ANSWER), events=False)
    assert heard.status == 200
    assert len(heard.pieces) == 1 + (305 - HEAD_AFTER) // KEEPALIVE_EVERY + 1
    assert set(b"".join(data for _, data in heard.pieces[:-1])) == {ord(" ")}
    assert "hello" in json.dumps(msgspec.json.decode(heard.body))


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_has_its_status_if_it_is_quick_and_is_a_visible_break_if_not(
    name: str, stream: bool, autojump_clock: trio.testing.MockClock
) -> None:
    outcome = Refused(Refusal(429, "wait"))
    quick = await play(name, stream=stream, silence=HEAD_AFTER - 1, outcome=outcome, events=False)
    assert (quick.status, quick.ended, quick.aborted) == (429, True, False)
    late = await play(name, stream=stream, silence=HEAD_AFTER + 1, outcome=outcome, events=False)
    assert (late.status, late.ended, late.aborted) == (200, False, True)
