"""A scripted model says what was written down, in order, and nothing else."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import ask, bearer
from triocept import DialectError, Refusal, Request, Response, ScriptedModel, ToolCall, serve_endpoint
from triocept.errors import ScriptExhausted
from triocept.handlers import read_script


async def test_each_kind_of_reply_is_given_in_order() -> None:
    async def later(request: Request) -> str:
        await trio.lowlevel.checkpoint()
        return f"{len(request.messages)} messages"

    script = ScriptedModel(
        [
            "text", ToolCall.of("t", a=1), ["both", ToolCall.of("t"), ToolCall.of("u")],
            Response.of("whole", stop_reason="max_tokens"), 0.01, later, Refusal(429, "wait"),
        ],
    )  # fmt: skip
    assert script.remaining == 6
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        for number in range(6):
            await ask(rollout, str(number))
    answers = [turn.response for turn in rollout.trace if turn.response]
    assert [answer.text for answer in answers] == ["text", "", "both", "whole", "1 messages"]
    assert [[call.name for call in answer.tool_calls] for answer in answers] == [
        [], ["t"], ["t", "u"], [], [],
    ]  # fmt: skip
    assert rollout.trace[5].error.status == 429
    assert script.remaining == 0


async def test_a_script_that_runs_out_shows_the_request() -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(
            ScriptExhausted, match=r"call 2 came, but the script has 1 reply: .*\n.*user: what now"
        ):
            async with endpoint.open_rollout(ScriptedModel(["one"])) as rollout:
                await ask(rollout, "first")
                await ask(rollout, "what now")


async def test_a_hang_up_during_a_pause_gives_the_reply_back() -> None:
    script = ScriptedModel([30, "worth it"])
    async with serve_endpoint() as endpoint, endpoint.open_rollout(script) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, rollout)
            while not rollout.calls:
                await trio.sleep(0.005)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        while not len(rollout.trace):
            await trio.sleep(0.005)
        assert script.remaining == 1


@pytest.mark.parametrize("reply", [None, {"text": "x"}, [], [3], b"bytes", True])
def test_what_is_no_reply_is_a_typeerror_that_names_its_place(reply: object) -> None:
    with pytest.raises(TypeError, match=r"replies\[1\]"):
        ScriptedModel(["fine", reply])  # type: ignore[list-item]


def test_a_script_is_read_from_python_or_json(tmp_path: Path) -> None:
    python = tmp_path / "s.py"
    python.write_text("from triocept import ToolCall\nreplies = ['a', ToolCall.of('t', x=1)]\n")
    assert read_script(python) == ["a", ToolCall.of("t", x=1)]
    document = ["a", 0.5, {"tool": "t", "arguments": {"x": 1}}, ["b", {"tool": "u"}]]
    file = tmp_path / "s.json"
    file.write_text(json.dumps([*document, {"refuse": 429, "message": "no", "retry_after": 2}]))
    *first, refusal = read_script(file)
    assert first == ["a", 0.5, ToolCall.of("t", x=1), ["b", ToolCall("u")]]
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.retry_after) == (429, 2)


@pytest.mark.parametrize(("text", "place"), [
    ("{", "this is not JSON"),
    ("{}", "a list of replies"),
    ('["a", {"x": 1}]', r"\[1\]"),
    ('[["a", 3]]', r"\[0\]"),
])  # fmt: skip
def test_a_script_that_is_none_is_an_error_that_names_the_place(
    text: str, place: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.json"
    file.write_text(text)
    with pytest.raises(DialectError, match=place):
        read_script(file)


def test_a_python_script_must_define_replies(tmp_path: Path) -> None:
    file = tmp_path / "s.py"
    file.write_text("answers = []")
    with pytest.raises(DialectError, match="replies"):
        read_script(file)


async def test_a_script_that_has_run_out_shows_each_message_in_a_line_and_counts_no_pauses() -> None:
    with pytest.raises(ScriptExhausted) as caught:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(ScriptedModel([0, 0, "a"])) as rollout:
            async with httpx2.AsyncClient() as http:
                for _ in range(2):
                    messages = [{"role": "system", "content": "one\ntwo"}, {"role": "user", "content": "go"}]
                    await http.post(
                        rollout.base_url("openai_chat") + "/chat/completions",
                        headers=bearer(rollout),
                        json={"model": "m", "messages": messages},
                    )
    assert "call 2 came, but the script has 1 reply: " in str(caught.value)
    assert str(caught.value).splitlines()[1:] == ["  system: one two", "  user: go"]


async def test_a_list_in_a_list_is_one_response_and_who_runs_out_is_told_so() -> None:
    async with serve_endpoint() as endpoint:
        with pytest.raises(
            ScriptExhausted, match=r"a list, which is one response with 2 parts. For 2 replies, .* brackets"
        ):
            async with endpoint.open_rollout(ScriptedModel([["one", "two"]])) as rollout:
                await ask(rollout)
                await ask(rollout)


async def test_a_handler_among_the_replies_is_told_what_it_is_given() -> None:
    async def answer(exchange: Any) -> None:
        await exchange.respond("hello")

    def look(exchange: Any) -> str:
        return str(exchange.request.messages)

    def mistaken(request: Any) -> str:
        return str(request.masseges)

    async with serve_endpoint() as endpoint:
        for function, told in ((answer, True), (look, True), (mistaken, False)):
            with pytest.raises(AttributeError) as raised:
                async with endpoint.open_rollout(ScriptedModel([function])) as rollout:
                    await ask(rollout)
            notes = "".join(raised.value.__notes__)
            assert told == ("replies[0] is a function: a reply function gets the request" in notes)
