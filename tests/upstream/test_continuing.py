"""A stream that the server aborts for another program, after the agent has a part of it."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio

from triocept import Response, open_upstream
from triocept._upstream import pausing
from triocept.dialects import DIALECTS
from triocept.handlers import stop_when
from triocept.traces import steps
from triocept.types import assemble

from .conftest import Stage, ask_roughly, begin_to_read, staged
from .engines import OPENAPI
from .provider import ALL, CHAT, COMPLETIONS, END, MESSAGES, Asked, chunk, head, serve_provider, whole

ASKED = {"max_tokens": 10, "stream_options": {"include_usage": True}}
CALL = {"index": 0, "id": "k1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "ls", "parameters": {"type": "object", "properties": {}}}}]


def streamed(
    *deltas: Any,
    finish: str | None = "stop",
    usage: tuple[int, int] | None = (11, 3),
    name: str = "c1",
    prompt: Any = None,
) -> bytes:
    """A stream of chat completions, or of completions; a text in place of a delta is a content."""
    parts = [{"delta": {"role": "assistant", "content": ""}, "text": ""}, *map(part_of, deltas)]
    if finish is not None:
        parts.append({"delta": {}, "text": "", "finish_reason": finish})
    chunks: list[Any] = [{"choices": [{"index": 0, "finish_reason": None, **part}]} for part in parts]
    chunks[0] |= {} if prompt is None else {"prompt_token_ids": prompt}
    if usage is not None:
        total = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        chunks.append({"choices": [], "usage": total})
    fixed = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": "m"}
    lines = [b"data: " + json.dumps({**fixed, **each}).encode() + b"\n\n" for each in chunks]
    return b"".join([head(), *map(chunk, [*lines, b"data: [DONE]\n\n"]), END])


def part_of(delta: Any) -> dict[str, Any]:
    if isinstance(delta, str):
        return {"delta": {"content": delta}, "text": delta}
    return delta if "delta" in delta else {"delta": delta}


class Server:
    """A server of the kind `kind`, which sends `answers`, one after the other."""

    def __init__(self, *answers: bytes | None, kind: str = "vllm") -> None:
        self.answers = list(answers)
        self.kind = kind
        self.documents: list[Any] = []
        self.before: Callable[[], object] = int
        """What it does before each answer."""
        self.ended = trio.Event()

    async def __call__(self, asked: Asked, stream: trio.SocketStream) -> None:
        if asked.target == "/openapi.json":
            known = self.kind in OPENAPI
            await stream.send_all(
                whole(json.dumps(OPENAPI[self.kind]).encode()) if known else whole(b"{}", 404)
            )
            return
        self.documents.append(asked.document)
        self.before()
        answer = self.answers.pop(0)
        if answer is not None:
            await stream.send_all(answer)
        else:
            assert not await stream.receive_some()  # the call is cancelled
            self.ended.set()


def read_by(agent: str, answered: httpx2.Response) -> Response:
    """What an agent of this dialect reads."""
    assert answered.status_code == 200, answered.text
    parser = DIALECTS[agent].stream_parser()
    return assemble([*parser.feed(answered.content), *parser.close()])


async def check_error(stage: Stage, server: Server, calls: int, **more: Any) -> None:
    """The agent's stream ends with the error of the abort, after so many calls."""
    told = b""
    with pytest.raises(httpx2.RemoteProtocolError):
        async with stage.asking(CHAT, stream=True, **more) as answered:
            async for piece in answered.aiter_raw():
                told += piece
    (turn,) = stage.rollout.trace
    assert b"aborted its answer" in told
    assert b"service unavailable" in told
    assert b"[DONE]" not in told
    assert (turn.outcome, len(server.documents)) == ("refused", calls)


@pytest.mark.parametrize("agent", ALL)
@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_an_aborted_text_is_continued_and_the_agent_gets_one_answer(kind: str, agent: str) -> None:
    server = Server(
        streamed("Hel", "lo, ", finish="abort"),
        streamed(" wor", "ld", ".", finish="length", usage=(14, 4), name="c2"),
        kind=kind,
    )
    more = ASKED if agent in (CHAT, COMPLETIONS) else {}
    async with staged(server, CHAT, concurrency=1) as stage:
        stage.upstream.policy_version = "w0"

        def update() -> None:
            stage.upstream.policy_version = f"w{len(server.documents)}"

        server.before = update
        answered = await stage.ask(agent, stream=True, **more)
        trace = stage.rollout.trace
    (turn,), said = trace, read_by(agent, answered)
    (draft,) = turn.drafts
    assert (said.text, said.stop_reason) == ("Hello, world.", "max_tokens")
    assert said.usage is not None
    assert (said.usage.input_tokens, said.usage.output_tokens) == (11, 3 + 4)
    assert turn.response is not None
    assert (turn.outcome, turn.response.text, turn.response.id) == ("answered", "Hello, world.", "c1")
    assert turn.rewritten, "no call has sampled this answer"
    assert (turn.policy_start, turn.policy_end) == ("w0", "w2")
    assert draft.response is not None
    assert (draft.why, draft.counted, draft.response.text) == ("abort", False, "Hello, ")
    assert (trace.usage.input_tokens, trace.usage.output_tokens) == (11, 7)
    first, second = server.documents
    beginning = {"role": "assistant", "content": "Hello,"}
    assert second == {
        **first,
        "messages": [*first["messages"], beginning],
        "continue_final_message": True,
        "add_generation_prompt": False,
        **{name: value - 3 for name, value in first.items() if name.startswith("max_")},
    }


async def test_the_chunks_of_a_continued_answer_are_those_of_one_stream() -> None:
    server = Server(streamed("a", finish="abort"), streamed("b", usage=(12, 1), name="c2"))
    async with staged(server, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True, **ASKED)
    lines = [line.removeprefix("data: ") for line in answered.text.splitlines() if line]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    choices = [choice for each in chunks for choice in each["choices"]]
    assert lines.count("[DONE]") == 1
    assert {each["id"] for each in chunks} == {"c1"}
    assert [each["delta"]["role"] for each in choices if "role" in each["delta"]] == ["assistant"]
    assert [each["finish_reason"] for each in choices if each["finish_reason"]] == ["stop"]
    assert [each["usage"]["total_tokens"] for each in chunks if each.get("usage")] == [11 + 3 + 1]


@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
async def test_an_answer_that_is_aborted_again_is_continued_again(
    agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "FIRST_PAUSE", 0.001)
    server = Server(
        streamed("one\n", "\n", finish="abort"),
        streamed("\n", "\ntwo", finish="abort", usage=(13, 2)),
        streamed(finish="abort", usage=(15, 0)),
        streamed(" three", usage=(15, 1)),
    )
    async with staged(server, CHAT) as stage:
        answered = await stage.ask(agent, stream=True, **(ASKED if agent == CHAT else {}))
        (turn,) = stage.rollout.trace
    said = read_by(agent, answered)
    assert said.text == "one\n\ntwo three"
    assert said.usage is not None
    assert (said.usage.input_tokens, said.usage.output_tokens) == (11, 3 + 2 + 0 + 1)
    assert [draft.response.text for draft in turn.drafts if draft.response] == ["one\n\n", "two", ""]
    assert [each["messages"][-1]["content"] for each in server.documents[1:]] == ["one", *["one\n\ntwo"] * 2]
    if agent == CHAT:
        assert [each["max_tokens"] for each in server.documents] == [10, 7, 5, 5]


async def test_a_tool_call_in_the_rest_reaches_the_agent() -> None:
    server = Server(
        streamed("I look. ", finish="abort"),
        streamed({"tool_calls": [CALL]}, finish="tool_calls", usage=(14, 9)),
    )
    async with staged(server, CHAT) as stage:
        for agent in (CHAT, MESSAGES):
            said = read_by(agent, await stage.ask(agent, stream=True))
            assert said.text == "I look. "
            assert [call.name for call in said.tool_calls] == ["ls"]
            server.answers = [
                streamed("I look. ", finish="abort"),
                streamed({"tool_calls": [CALL]}, finish="tool_calls", usage=(14, 9)),
            ]
        assert [turn.outcome for turn in stage.rollout.trace] == ["answered"] * 2


async def test_a_text_completion_is_continued_with_its_prompt() -> None:
    server = Server(streamed("Hello, ", finish="abort"), streamed("world.", usage=(14, 4)))
    async with staged(server, COMPLETIONS) as stage:
        answered = await stage.ask(COMPLETIONS, stream=True, **ASKED)
    said = read_by(COMPLETIONS, answered)
    assert said.text == "Hello, world."
    assert (server.documents[1]["prompt"], server.documents[1]["max_tokens"]) == ("hiHello, ", 7)


@pytest.mark.parametrize("beginning", [(), ("\n",)])
async def test_a_stream_without_a_word_is_requested_again_as_it_was(beginning: tuple[str, ...]) -> None:
    """Whatever it asks for: nothing of its answer is kept."""
    server = Server(streamed(*beginning, finish="abort"), streamed("\nwhole", usage=(11, 2)))
    async with staged(server, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True, stop=["x"], tools=TOOLS, tool_choice="required")
    assert read_by(CHAT, answered).text == "\nwhole"
    assert server.documents[0] == server.documents[1]


async def test_a_stream_that_vllm_aborts_before_its_first_token_is_requested_again() -> None:
    """vLLM 0.32 then sends no finish reason; here, it does so at the beginning, and in the rest."""
    empty = streamed(finish=None, usage=(11, 0))
    server = Server(empty, streamed("Hello, ", finish="abort"), empty, streamed(" world"))
    async with staged(server, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True)
        (turn,) = stage.rollout.trace
    assert read_by(CHAT, answered).text == "Hello, world"
    assert [draft.why for draft in turn.drafts] == ["abort"] * 3


@pytest.mark.parametrize("kind", ["vllm", "llama_cpp"])
async def test_a_stream_without_a_finish_reason_of_another_server_or_with_content_is_an_error(
    kind: str,
) -> None:
    server = Server(streamed(*["Hello"] * (kind == "vllm"), finish=None), kind=kind)
    async with staged(server, CHAT) as stage:
        told, _ = await ask_roughly(stage, CHAT)
    assert b"without a finish reason" in told
    assert len(server.documents) == 1


@pytest.mark.parametrize(("usage", "left"), [((11, 3), 7), (None, 10 - 2)])
async def test_the_maximum_of_tokens_holds_for_all_parts_together(usage: Any, left: int) -> None:
    """By an estimate, if the server sends no usage."""
    server = Server(streamed("Hello, wor", finish="abort", usage=usage), streamed("ld", usage=usage))
    async with staged(server, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True, max_tokens=10)
    assert read_by(CHAT, answered).text == "Hello, world"
    assert server.documents[1]["max_tokens"] == left


async def test_an_answer_that_had_its_maximum_of_tokens_is_not_continued() -> None:
    server = Server(streamed("Hello", finish="abort", usage=(11, 10)))
    async with staged(server, CHAT) as stage:
        await check_error(stage, server, 1, max_tokens=10)


async def test_a_stream_with_a_tool_call_is_not_continued() -> None:
    server = Server(streamed("I look.", {"tool_calls": [CALL]}, finish="abort"))
    async with staged(server, CHAT) as stage:
        await check_error(stage, server, 1)


@pytest.mark.parametrize("first", [{"reasoning": "Hm."}, "<think>\nHm.", "[THINK]Hm."])
async def test_a_stream_with_reasoning_is_not_continued(first: Any) -> None:
    server = Server(streamed(first, "I look.", finish="abort"))
    async with staged(server, CHAT) as stage:
        await check_error(stage, server, 1)


@pytest.mark.parametrize("kind", ["llama_cpp", "vllm_0_14", "sglang_without_modes"])
async def test_a_stream_of_a_server_that_is_not_known_to_continue_is_not_continued(kind: str) -> None:
    server = Server(streamed("Hello", finish="abort"), kind=kind)
    async with staged(server, CHAT) as stage:
        await check_error(stage, server, 1)


@pytest.mark.parametrize(
    "field",
    [
        {"stop": ["x"]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a+"}},
        {"seed": 1},
        {"seed": 0},
        {"include_reasoning": False},
        {"separate_reasoning": False},
        {"skip_special_tokens": False},
        {"prompt_logprobs": 0},
        {"frequency_penalty": 0.5},
        {"logprobs": True},
        {"return_token_ids": True},
        {"tools": TOOLS, "tool_choice": "required"},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Yes, "}]},
    ],
    ids=lambda field: next(reversed(field)),
)
async def test_a_call_whose_fields_mean_something_else_for_a_rest_is_not_continued(field: Any) -> None:
    server = Server(streamed("Hello", finish="abort"))
    async with staged(server, CHAT) as stage:
        await check_error(stage, server, 1, **field)


async def test_a_completion_with_log_probabilities_of_the_sampled_tokens_only_is_not_continued() -> None:
    server = Server(streamed("Hello", finish="abort"))
    async with staged(server, COMPLETIONS) as stage:
        told, _ = await ask_roughly(stage, COMPLETIONS, logprobs=0)
    assert b"aborted its answer" in told
    assert len(server.documents) == 1


async def test_a_continued_answer_that_the_agent_does_not_get_is_counted_once() -> None:
    server = Server(streamed("Hello, ", finish="abort"), streamed(" world.", usage=(14, 4)))
    async with (
        serve_provider(server) as provider,
        open_upstream(f"{provider.url}/v1", dialect=CHAT) as upstream,
    ):
        handler = stop_when(upstream, lambda response: True, deliver=False)
        async with staged(server, CHAT, handler=handler) as stage:
            answered = await stage.ask(CHAT, stream=True, **ASKED)
            usage = stage.rollout.trace.usage
    assert answered.status_code == 404
    assert (usage.input_tokens, usage.output_tokens) == (11, 3 + 4)


async def test_fields_that_are_empty_do_not_hinder() -> None:
    server = Server(streamed("a", finish="abort"), streamed("b"))
    empty = {"stop": None, "frequency_penalty": 0, "logprobs": False, "response_format": None}
    async with staged(server, CHAT) as stage:
        answered = await stage.ask(CHAT, stream=True, **empty)
    assert read_by(CHAT, answered).text == "ab"


@pytest.mark.parametrize(
    "rest",
    [
        streamed({"reasoning": "Hm."}, " world"),
        streamed("world"),
        streamed(" world", finish=None),
        whole(b'{"error": {"message": "substring not found"}}', 400),
        whole(b"{}", 200),
        whole(b"<html>", 502),
    ],
    ids=["reasoning", "other blanks", "truncated", "refused", "no answer", "no server"],
)
async def test_a_rest_that_does_not_continue_the_text_ends_with_the_error_of_the_abort(rest: bytes) -> None:
    server = Server(streamed("Hello, ", finish="abort"), rest)
    async with staged(server, CHAT) as stage:
        await check_error(stage, server, 2)


async def test_a_server_that_aborts_every_rest_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "FIRST_PAUSE", 0.001)
    server = Server(*[streamed("a", finish="abort")] * 20)
    async with staged(server, CHAT) as stage:
        await check_error(stage, server, 1 + pausing.MAX_ABORTED)
        (turn,) = stage.rollout.trace
    assert turn.response is not None
    assert turn.response.text == "a" * len(server.documents)


@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
async def test_an_agent_that_hangs_up_while_the_rest_is_requested_ends_that_call(agent: str) -> None:
    server = Server(streamed("Hello", finish="abort"), None)
    async with staged(server, CHAT) as stage:
        called = trio.Event()
        server.before = lambda: called.set() if len(server.documents) == 2 else None
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with trio.CancelScope() as scope:
                    nursery.start_soon(hang_up, scope)
                    await begin_to_read(stage, agent, until=b"not in it")

            async def hang_up(scope: trio.CancelScope) -> None:
                await called.wait()
                scope.cancel()

            nursery.start_soon(read)
        await server.ended.wait()
        while not stage.rollout.trace.turns:
            await trio.lowlevel.checkpoint()
    (turn,) = stage.rollout.trace
    assert (turn.outcome, turn.response and turn.response.text) == ("abandoned", "Hello")


async def test_a_rollout_that_ends_while_the_rest_is_requested_ends_that_call() -> None:
    server = Server(streamed("Hello", finish="abort"), None)
    async with staged(server, CHAT) as stage, trio.open_nursery() as nursery:
        called = trio.Event()
        server.before = lambda: called.set() if len(server.documents) == 2 else None
        nursery.start_soon(ask_roughly, stage, CHAT)
        await called.wait()
        await stage.rollout.stop("enough")
        await server.ended.wait()
    (turn,) = stage.rollout.trace
    assert turn.outcome == "refused"


def sampled(prompt: list[int], ids: list[int], finish: str) -> bytes:
    """A stream with token ids, of which each is a letter."""
    choices = [
        {
            "delta": {"content": chr(each)},
            "token_ids": [each],
            "logprobs": {
                "content": [{"token": chr(each), "logprob": -0.5, "bytes": [1], "top_logprobs": []}]
            },
        }
        for each in ids
    ]
    return streamed(*choices, finish=finish, usage=(len(prompt), len(ids)), prompt=prompt)


async def test_the_tokens_of_a_continued_turn_are_those_of_its_last_part_and_mark_it_as_rewritten() -> None:
    server = Server(
        sampled([1], [65], "length"),  # when the upstream is opened
        sampled([1, 2], [65, 66], "abort"),
        sampled([1, 2, 65, 66], [67], "stop"),
    )
    async with staged(server, CHAT, tokens="vllm", model="m") as stage:
        answered = await stage.ask(CHAT, stream=True)
        trace = stage.rollout.trace
    (turn,), (step,) = trace, steps(trace)
    (draft,) = turn.drafts
    assert read_by(CHAT, answered).text == "ABC"
    assert "token_ids" not in answered.text
    assert step.gaps == ("rewritten_response",)
    assert ([*step.prompt_ids], [*step.completion_ids]) == ([1, 2, 65, 66], [67])
    assert draft.tokens is not None
    assert ([*draft.tokens.prompt_ids], [*draft.tokens.completion_ids]) == ([1, 2], [65, 66])
    assert draft.tokens.gaps == ("upstream_truncated",)
