"""Reasoning that only its provider can read comes back to it, and to nobody else."""

import itertools
import json
from typing import Any

import pytest
import trio

from triocept import Response, Text, ToolCall, Usage, open_upstream
from triocept.handlers import route
from triocept.traces import Redaction
from triocept.types import Blob, Reasoning

from .conftest import base_of, staged
from .provider import CHAT, GEMINI, MESSAGES, RESPONSES, Answer, Asked, answers, body_of, serve_provider

USAGE = Usage(input_tokens=5, output_tokens=6)
SIGNED = Response(
    (
        Reasoning("Let me look.", (Blob(MESSAGES, "signature", "SIGNATURE=="),)),
        Text("I look."),
        ToolCall("ls", '{"path":"."}', "toolu_1"),
    ),
    id="msg_1",
    model="m",
    usage=USAGE,
    dialect=MESSAGES,
)


def history_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A chat agent's next call: its history with the answer, as it was told."""
    return [
        {"role": "user", "content": "hi"},
        message,
        {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "a.txt"},
    ]


async def test_a_signature_comes_back_though_the_agent_could_not_keep_it() -> None:
    async with staged(answers(MESSAGES, SIGNED), MESSAGES) as stage:
        for stream in (False, True):
            told = (await stage.ask(CHAT)).json()["choices"][0]["message"]
            assert "SIGNATURE==" not in json.dumps(told)
            kept = {name: told[name] for name in ("role", "content", "tool_calls")}
            await stage.ask(CHAT, stream=stream, messages=history_of(kept))
            sent = stage.provider.asked[-1].document["messages"]
            assert sent[1]["content"] == [
                {"type": "thinking", "thinking": "Let me look.", "signature": "SIGNATURE=="},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "ls", "input": {"path": "."}},
            ]
    assert all("dropped_reasoning" not in turn.notes for turn in stage.rollout.trace)


async def test_an_answer_without_tools_is_known_by_its_text() -> None:
    thought = Response(
        (Reasoning("So.", (Blob(MESSAGES, "signature", "S1"),)), Text("The answer is 4.")),
        id="msg_1",
        usage=USAGE,
        dialect=MESSAGES,
    )
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "The answer is 4. "},
        {"role": "user", "content": "sure?"},
    ]
    async with staged(answers(MESSAGES, thought), MESSAGES) as stage:
        await stage.ask(CHAT, stream=True)
        await stage.ask(CHAT, messages=messages)
    assert stage.provider.asked[-1].document["messages"][1]["content"][0]["signature"] == "S1"


async def test_what_the_agent_changed_is_sent_as_the_agent_wrote_it() -> None:
    with trio.fail_after(30):
        async with staged(answers(MESSAGES, SIGNED), MESSAGES) as stage:
            told = (await stage.ask(CHAT)).json()["choices"][0]["message"]
            kept = {"role": "assistant", "content": "I never look.", "tool_calls": told["tool_calls"]}
            await stage.ask(CHAT, messages=history_of(kept))
    content = stage.provider.asked[-1].document["messages"][1]["content"]
    assert [block["type"] for block in content] == ["text", "tool_use"]
    assert content[0]["text"] == "I never look."


async def test_geminis_signature_stands_again_on_the_call_that_had_it() -> None:
    call = ToolCall("ls", '{"path":"."}', "", extra={"thoughtSignature": "R0VN"})
    answer = Response((call,), id="1", usage=USAGE, dialect=GEMINI)
    async with staged(answers(GEMINI, answer), GEMINI) as stage:
        told = (await stage.ask(CHAT)).json()["choices"][0]["message"]
        assert "R0VN" not in json.dumps(told)
        kept = {"role": "assistant", "content": None, "tool_calls": told["tool_calls"]}
        await stage.ask(CHAT, messages=history_of(kept))
    (part,) = stage.provider.asked[-1].document["contents"][1]["parts"]
    assert part["thoughtSignature"] == "R0VN"
    assert part["functionCall"]["name"] == "ls"


async def test_encrypted_reasoning_comes_back_to_responses() -> None:
    thought = Reasoning("", (Blob(RESPONSES, "encrypted_content", "gAAAA"),), {"item": {"id": "rs_1"}})
    answer = Response((thought, ToolCall("ls", "{}", "call_9")), id="resp_9", usage=USAGE, dialect=RESPONSES)
    async with staged(answers(RESPONSES, answer), RESPONSES) as stage:
        told = (await stage.ask(CHAT)).json()["choices"][0]["message"]
        kept = {"role": "assistant", "content": None, "tool_calls": told["tool_calls"]}
        await stage.ask(CHAT, messages=history_of(kept))
    items = stage.provider.asked[-1].document["input"]
    assert [item["type"] for item in items] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert items[1]["encrypted_content"] == "gAAAA"


async def test_another_provider_does_not_get_it_and_the_turn_says_so() -> None:
    """A Messages agent keeps signatures itself; a second provider of the same dialect did not make them."""
    async with serve_provider(answers(MESSAGES)) as other:
        base = base_of(other.url, MESSAGES)
        async with open_upstream(base, dialect=MESSAGES) as second:
            chosen: list[Any] = []

            async def choose(exchange: Any) -> None:
                await chosen[-1](exchange)

            async with staged(answers(MESSAGES, SIGNED), MESSAGES, handler=choose) as stage:
                chosen.append(stage.upstream)
                told = (await stage.ask(MESSAGES)).json()["content"]
                result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt"}
                messages = [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": told},
                    {"role": "user", "content": [result]},
                ]
                await stage.ask(MESSAGES, messages=messages)
                assert stage.provider.asked[-1].document["messages"] == messages
                chosen.append(second)
                await stage.ask(MESSAGES, messages=messages)
    assert "SIGNATURE==" not in other.asked[0].body.decode()
    first, same, moved = stage.rollout.trace
    assert "dropped_reasoning" not in first.notes
    assert "dropped_reasoning" not in same.notes
    assert moved.notes["dropped_reasoning"] == 1


async def test_what_the_agent_could_not_keep_is_put_back_for_the_provider_that_made_it_alone() -> None:
    async with serve_provider(answers(MESSAGES)) as other:
        async with open_upstream(base_of(other.url, MESSAGES), dialect=MESSAGES) as second:
            handlers: dict[str, Any] = {"second": second}

            async def choose(exchange: Any) -> None:
                await handlers[exchange.request.model](exchange)

            async with staged(answers(MESSAGES, SIGNED), MESSAGES, handler=choose) as stage:
                handlers["asked"] = stage.upstream
                told = (await stage.ask(CHAT)).json()["choices"][0]["message"]
                kept = {name: told[name] for name in ("role", "content", "tool_calls")}
                await stage.ask(CHAT, model="second", messages=history_of(kept))
                await stage.ask(CHAT, messages=history_of(kept))
    assert "SIGNATURE==" not in other.asked[0].body.decode()
    assert "SIGNATURE==" in stage.provider.asked[-1].body.decode()


async def test_a_provider_of_another_dialect_does_not_get_it_and_the_turn_says_so() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "FROM-ELSEWHERE"}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "sure?"},
    ]
    async with staged(answers(CHAT), CHAT) as stage:
        await stage.ask(MESSAGES, messages=messages)
    assert "FROM-ELSEWHERE" not in stage.provider.asked[0].body.decode()
    assert stage.rollout.trace[0].notes["dropped_reasoning"] == 1


async def test_thinking_that_nobody_signed_does_not_go_up_as_if_it_were_signed() -> None:
    """It came from a program, or from a provider that signs nothing: Anthropic would answer 400."""
    thought = Response((Reasoning("Hm."), Text("Yes.")), usage=USAGE)
    real: list[Any] = []

    async def model(exchange: Any) -> None:
        if real:
            await real[0](exchange)
        else:
            await exchange.respond(thought)

    async with staged(answers(MESSAGES), MESSAGES, handler=model) as stage:
        told = (await stage.ask(MESSAGES)).json()["content"]
        assert told[0]["type"] == "thinking"
        real.append(stage.upstream)
        messages = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": told},
            {"role": "user", "content": "sure?"},
        ]
        assert (await stage.ask(MESSAGES, messages=messages)).status_code == 200
    sent = stage.provider.asked[0].document["messages"][1]["content"]
    assert sent in ("Yes.", [{"type": "text", "text": "Yes."}])


async def test_a_call_that_names_an_earlier_response_goes_up_with_the_whole_conversation() -> None:
    first = Response((Text("One."),), id="resp_first", usage=USAGE, dialect=RESPONSES)
    async with staged(answers(RESPONSES, first), RESPONSES) as stage:
        told = (await stage.ask(RESPONSES)).json()
        await stage.ask(RESPONSES, input="and then?", previous_response_id=told["id"], zebra=1)
    document = stage.provider.asked[1].document
    assert "previous_response_id" not in document
    assert document["zebra"] == 1
    texts = [json.dumps(item.get("content")) for item in document["input"]]
    assert ["hi" in texts[0], "One." in texts[1], "and then?" in texts[2]] == [True] * 3


async def test_models_are_chosen_by_name_and_each_has_its_own_history() -> None:
    async with serve_provider(answers(CHAT)) as cheap:
        async with open_upstream(base_of(cheap.url, CHAT), dialect=CHAT) as small:
            handlers: dict[str, Any] = {"small": small}

            async def answer(asked: Asked, stream: trio.SocketStream) -> None:
                await answers(MESSAGES, SIGNED)(asked, stream)

            async with staged(answer, MESSAGES, handler=route(handlers)) as stage:
                handlers["asked"] = stage.upstream
                chosen = route(handlers)
                async with stage.endpoint.open_rollout(chosen) as rollout:
                    stage.rollout = rollout
                    told = (await stage.ask(CHAT)).json()["choices"][0]["message"]
                    kept = {name: told[name] for name in ("role", "content", "tool_calls")}
                    await stage.ask(CHAT, model="small", messages=history_of(kept))
                    await stage.ask(CHAT, messages=history_of(kept))
    assert "SIGNATURE" not in cheap.asked[0].body.decode()
    assert "SIGNATURE" in stage.provider.asked[-1].body.decode()
    assert body_of(CHAT)["model"] == "asked"


def signed(number: int) -> Response:
    """The same words and the same call each time, but another thought."""
    thought = Reasoning(f"Thought {number}.", (Blob(MESSAGES, "signature", f"S{number}"),))
    call = ToolCall("ls", '{"path":"."}', f"toolu_{number}")
    return Response((thought, Text("I look."), call), id=f"msg_{number}", usage=USAGE, dialect=MESSAGES)


def each_signed() -> Answer:
    """A provider whose thoughts are never the same."""
    numbers = itertools.count(1)

    async def answer(call: Asked, stream: trio.SocketStream) -> None:
        await answers(MESSAGES, signed(next(numbers)))(call, stream)

    return answer


FIRST = {"role": "user", "parts": [{"text": "hi"}]}


def without_ids(*contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An answer and its result, as LangChain's and agno's Gemini tell them: without ids."""
    result = {"functionResponse": {"name": "ls", "response": {"output": "a.txt"}}}
    told = [{"role": "model", "parts": parts} for parts in contents]
    return [*told, {"role": "user", "parts": [result]}]


CALLED = {"functionCall": {"name": "ls", "args": {"path": "."}}}
WHOLE = without_ids([{"text": "I look."}, CALLED])
TOLD = {"whole": WHOLE, "in increments": without_ids([{"text": "I "}], [{"text": "look."}], [CALLED])}


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD.keys())
async def test_a_signature_comes_back_where_it_stood_to_an_agent_that_sends_no_ids(
    told: list[dict[str, Any]],
) -> None:
    async with staged(each_signed(), MESSAGES) as stage:
        for turns in range(3):
            await stage.ask(GEMINI, contents=[FIRST, *(told * turns)])
    said = stage.provider.asked[-1].document["messages"][1::2]
    blocks = [block for message in said for block in message["content"]]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"] * 2
    assert [block["signature"] for block in blocks if "signature" in block] == ["S1", "S2"]
    assert "dropped_reasoning" not in stage.rollout.trace[-1].notes


async def test_a_signature_that_could_belong_to_either_of_two_answers_is_left_out() -> None:
    async with staged(each_signed(), MESSAGES) as stage:
        await stage.ask(GEMINI, contents=[FIRST])
        await stage.ask(GEMINI, contents=[FIRST, *WHOLE])
        aside = {"role": "user", "parts": [{"text": "a summary of what was before"}]}
        await stage.ask(GEMINI, contents=[FIRST, aside, *WHOLE])
    content = stage.provider.asked[-1].document["messages"][-2]["content"]
    assert [block["type"] for block in content] == ["text", "tool_use"]


async def test_what_is_redacted_in_the_record_comes_back_to_its_provider_whole() -> None:
    async with staged(
        answers(MESSAGES, SIGNED), MESSAGES, rollout={"redact": Redaction(["look", "SIGN", r"\."])}
    ) as stage:
        told = (await stage.ask(CHAT)).json()["choices"][0]["message"]
        kept = {name: told[name] for name in ("role", "content", "tool_calls")}
        await stage.ask(CHAT, messages=history_of(kept))
    assert stage.provider.asked[-1].document["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Let me look.", "signature": "SIGNATURE=="},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "ls", "input": {"path": "."}},
    ]
    assert "look" not in repr(stage.rollout.trace[0].response)
