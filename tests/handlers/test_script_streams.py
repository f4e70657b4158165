"""A scripted stream has the pieces that were chosen, at the pace that was chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio

from tests.asking import bearer
from triocept import Response, Rollout, ScriptedModel, ToolCall, Usage, serve_endpoint
from triocept.handlers import Stream, paced
from triocept.types import PartDelta, Reasoning, ResponseEnd


async def pieces(script: ScriptedModel) -> tuple[Rollout, list[dict[str, Any]]]:
    """The chunks of one streamed chat completion."""
    with trio.fail_after(20):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
            async with httpx2.AsyncClient() as http:
                answer = await http.post(
                    rollout.base_url("openai_chat") + "/chat/completions",
                    headers=bearer(rollout),
                    json={
                        "model": "m",
                        "stream": True,
                        "messages": [{"role": "user", "content": "go"}],
                        "tools": [{"type": "function", "function": {"name": "t"}}],
                    },
                )
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return rollout, [httpx2.Response(200, text=line).json()["choices"][0] for line in lines]


async def test_each_piece_is_an_increment_of_its_own() -> None:
    call = ToolCall.of("t", a=1)
    script = ScriptedModel(
        [Stream("Hel", "lo", call, stop_reason="max_tokens", usage=Usage(input_tokens=1, output_tokens=2))]
    )
    rollout, chunks = await pieces(script)
    assert [text for chunk in chunks if (text := chunk["delta"].get("content"))] == ["Hel", "lo"]
    (turn,) = rollout.trace
    assert (turn.response.text, turn.response.stop_reason) == ("Hello", "max_tokens")
    assert [each.arguments for each in turn.response.tool_calls] == [call.arguments]
    assert turn.response.usage == Usage(input_tokens=1, output_tokens=2)


async def test_a_paced_answer_is_cut_into_pieces_of_so_many_characters() -> None:
    answer = Response.of(Reasoning("hm hm"), "It rains.", ToolCall.of("t", a=1), stop_reason="tool_use")
    rollout, chunks = await pieces(ScriptedModel([paced(answer, characters=4)]))
    assert [text for chunk in chunks if (text := chunk["delta"].get("content"))] == ["It r", "ains", "."]
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", ())]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a":1}'
    (turn,) = rollout.trace
    assert turn.response.text == "It rains."
    assert turn.response.content[0] == Reasoning("hm hm")


class Sent:
    """An exchange of which only the stream is asked."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, object]] = []
        self.ended = False

    def open_stream(self) -> Sent:
        return self

    async def __aenter__(self) -> Sent:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *args: object) -> None:
        await trio.lowlevel.checkpoint()

    async def send(self, piece: object) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append((trio.current_time(), piece))

    async def end(self, **how: object) -> None:
        await trio.lowlevel.checkpoint()
        self.ended = True


async def times(stream: Stream) -> list[float]:
    """When its texts are sent, from its beginning."""
    start, exchange = trio.current_time(), Sent()
    await stream(exchange)  # type: ignore[arg-type]
    assert exchange.ended
    return [round(time - start, 3) for time, piece in exchange.sent if isinstance(piece, str | PartDelta)]


async def test_the_pauses_are_those_that_were_chosen(autojump_clock: trio.testing.MockClock) -> None:
    assert await times(Stream("a", "b", "c", delay=300, first_after=5)) == [5, 305, 605]
    assert await times(Stream("a", "b")) == [0, 0]
    assert await times(paced("x" * 24, tokens_per_second=2, first_after=10)) == [10, 10.5, 11, 11.5, 12, 12.5]
    assert await times(paced("x" * 24, characters=12, tokens_per_second=2)) == [0, 1.5]
    assert await times(paced(ToolCall.of("t", a=1), tokens_per_second=1)) == [0, 1]
    assert await times(paced(["ab", "cd"], characters=1, tokens_per_second=0.25)) == [0, 1, 2, 3]


async def test_a_stream_that_ends_by_itself_is_not_ended_twice() -> None:
    rollout, _ = await pieces(ScriptedModel([Stream("a", ResponseEnd("max_tokens"))]))
    (turn,) = rollout.trace
    assert turn.response.stop_reason == "max_tokens"


def test_two_streams_of_the_same_are_equal() -> None:
    assert Stream("a", "b", delay=1) == Stream("a", "b", delay=1)
    assert len({Stream("a"), Stream("a")}) == 1
    assert Stream("a", "b") != Stream("a", "b", delay=1)
    assert Stream("a") != Stream("a", stop_reason="max_tokens")
    assert repr(Stream("a", "b")) == "Stream('a', 'b')"


@pytest.mark.parametrize(("wrong", "kind", "words"), [
    (lambda: Stream(), TypeError, "needs the pieces"),
    (lambda: Stream("a", 3), TypeError, "piece 1 is not a piece of an answer: int: 3"),
    (lambda: Stream("a", delay=-1), ValueError, "delay must be 0 or more"),
    (lambda: Stream("a", first_after="x"), TypeError, "first_after must be a number"),
    (lambda: Stream("a", stop_reason="done"), ValueError, "unknown stop reason 'done'"),
    (lambda: paced("a", characters=0), ValueError, "characters must be 1 or more"),
    (lambda: paced("a", tokens_per_second=0), ValueError, "more than 0"),
    (lambda: paced(3), TypeError, "not int: 3"),
])  # fmt: skip
def test_what_is_no_stream_is_told(wrong: Callable[[], object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        wrong()
