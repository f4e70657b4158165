"""What tests say of an application's calls, and what they are told where it is not so."""

import fnmatch
import json
import re
from collections.abc import Iterator
from unittest.mock import ANY

import httpx2
import pytest

from tests.testing.applications import sync_client
from triocept import Message, Text, ToolCall
from triocept.testing import SyncRollout, containing, fake_model
from triocept.types import Media, Reasoning, ToolResult

SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


def agent(question: str) -> str | None:
    """An application with one tool, which it carries out until the model has an answer."""
    messages: list[object] = [
        {"role": "system", "content": "be terse"},
        {"role": "user", "content": question},
    ]
    with sync_client() as client:
        while True:
            answer = client.chat.completions.create(model="m", messages=messages, tools=[SEARCH])  # type: ignore[call-overload]
            message = answer.choices[0].message
            if not message.tool_calls:
                return str(message.content)
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                arguments = json.loads(call.function.arguments)
                said = f"found {arguments['q']}"
                messages.append({"role": "tool", "tool_call_id": call.id, "content": said})


@pytest.fixture
def model() -> Iterator[SyncRollout]:
    """One that has searched twice."""
    replies = [ToolCall.of("search", q="tea", limit=3), ToolCall.of("search", q="milk"), "tea with milk"]
    with fake_model(*replies) as model:
        assert agent("what to drink?") == "tea with milk"
        yield model


def test_a_tool_call_that_was_carried_out_gives_its_result(model: SyncRollout) -> None:
    assert model.assert_called_with_tool("search", q="tea").text == "found tea"
    assert model.assert_called_with_tool("search", q="tea", limit=3).text == "found tea"
    assert model.assert_called_with_tool("search", q=re.compile("^mi")).text == "found milk"
    assert model.assert_called_with_tool("search", q=ANY).text == "found tea"
    assert model.assert_called_with_tool("search").text == "found tea"


def test_a_tool_call_that_was_not_is_told_what_was(model: SyncRollout) -> None:
    with pytest.raises(AssertionError) as failed:
        model.assert_called_with_tool("search", q="water")
    assert str(failed.value).splitlines() == [
        "no call of the application contains a tool result of search(q='water')",
        "the calls contain results of:",
        "  search(q='tea', limit=3) -> 'found tea'",
        "  search(q='milk') -> 'found milk'",
    ]


def test_a_tool_that_the_application_does_not_offer_is_told_what_was_meant(model: SyncRollout) -> None:
    with pytest.raises(AssertionError, match="the application offers search; did you mean 'search'\\?"):
        model.assert_called_with_tool("serch", q="tea")


def test_a_tool_call_that_no_result_came_of_was_not_carried_out() -> None:
    with fake_model(ToolCall.of("search", q="tea")) as model, sync_client() as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(
            AssertionError, match=r"contains their results:\n  search\(q='tea'\)\n.*offers no tools"
        ):
            model.assert_called_with_tool("search")


def test_where_no_call_came_that_is_what_an_assert_says() -> None:
    with fake_model() as model:
        with pytest.raises(AssertionError, match="was the client built before"):
            model.assert_called_with_tool("search")
        with pytest.raises(AssertionError, match="was the client built before"):
            model.assert_messages("hi")


def test_messages_are_what_they_are_said_to_be(model: SyncRollout) -> None:
    model.assert_messages("be terse", "what to drink?", call=0)
    model.assert_messages(("system", containing("terse")), ("user", re.compile("^what")), call=0)
    model.assert_messages(ANY, Message("user", "what to drink?"), call=0)
    model.assert_messages(
        "be terse",
        ("user", ANY),
        ToolCall.of("search", q="tea", limit=3),
        ("tool", "found tea"),
        ToolCall.of("search", q="milk"),
        "found milk",
    )
    model.assert_messages(..., ToolCall.of("search", q="milk"), ...)
    model.assert_messages("be terse", ..., ("tool", "found milk"))
    assert len(model.calls) == 3


def test_messages_that_are_others_are_shown_beside_those_expected(model: SyncRollout) -> None:
    with pytest.raises(AssertionError) as failed:
        model.assert_messages("be terse", ("user", "what to eat?"), call=0)
    assert str(failed.value).splitlines() == [
        "the messages differ from the expected ones:", "    system: 'be terse'", "  - user: 'what to eat?'",
        "  ?                ^^^", "  + user: 'what to drink?'", "  ?                ^^^^^",
    ]  # fmt: skip


@pytest.mark.parametrize("expected", [
    [],
    ["be terse"],
    ["what to drink?", "be terse"],
    [("user", "be terse"), ANY],
    [ANY, ANY, ANY],
    [..., "be terse"],
    [ToolCall.of("search"), ...],
    [Message("assistant", "be terse"), ...],
])  # fmt: skip
def test_messages_that_are_others_are_an_error(model: SyncRollout, expected: list[object]) -> None:
    with pytest.raises(AssertionError, match="the messages differ from the expected ones"):
        model.assert_messages(*expected, call=0)


LOOKS = {
    "role": "assistant",
    "content": "I look.",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "rm", "arguments": '{"path": "/"}'}}
    ],
}
SHOWS = {
    "role": "user",
    "content": [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "http://x/1.png"}},
    ],
}
CAME = [
    {"role": "user", "content": "go"},
    LOOKS,
    {"role": "tool", "tool_call_id": "c1", "content": "r"},
    SHOWS,
]
RM = ToolCall.of("rm", path="/")
IMAGE = Media(kind="image", url="http://x/1.png")


@pytest.fixture(scope="module")
def of_parts() -> Iterator[SyncRollout]:
    """A model that was asked with a tool call beside a text, its result, and an image."""
    with fake_model("ok") as model:
        httpx2.post(
            f"{model.base_url('openai_chat')}/chat/completions",
            json={"model": "m", "messages": CAME},
            headers={"authorization": f"Bearer {model.api_key}"},
        ).raise_for_status()
        yield model


def test_a_message_is_the_one_with_its_tool_calls_results_and_media(of_parts: SyncRollout) -> None:
    of_parts.assert_messages(
        Message("user", "go"),
        Message("assistant", (Text("I look."), RM)),
        Message("tool", (ToolResult(id="c1", content=(Text("r"),)),)),
        Message("user", (Text("see"), IMAGE)),
    )
    of_parts.assert_messages("go", "I look.", "r", "see")  # a text says nothing of what stands beside it


@pytest.mark.parametrize(("place", "expected", "shown"), [
    (1, Message("assistant", (Text("I look."), ToolCall.of("ls"))), "- assistant: 'I look.', ls({})"),
    (1, Message("assistant", "I look."), "- assistant: 'I look.'"),
    (1, Message("assistant", (Text("I look."), RM, RM)), "- assistant: *, rm(*), rm(*)"),
    (1, Message("assistant", (Text("I look."), RM, IMAGE)), "- assistant: *, image 'http://x/1.png'"),
    (2, Message("tool", (ToolResult(id="c1", content=(Text("other"),)),)), "- tool: result 'other'*"),
    (2, Message("tool", (ToolResult(id="c9", content=(Text("r"),)),)), "- tool: result 'r' of c9"),
    (2, Message("tool", (ToolResult(id="c1", content=(Text("r"),), is_error=True),)), "- tool: error 'r'*"),
    (3, Message("user", "see"), "- user: 'see'"),
    (3, Message("user", (Text("see"), Media(kind="image", url="http://x/2.png"))),
     "- user: 'see', image *2.png'"),
])  # fmt: skip
def test_a_message_with_another_part_or_without_one_is_another(
    of_parts: SyncRollout, place: int, expected: Message, shown: str
) -> None:
    wanted: list[object] = ["go", "I look.", "r", "see"]
    wanted[place] = expected
    with pytest.raises(AssertionError) as failed:
        of_parts.assert_messages(*wanted)
    lines = [line.strip() for line in str(failed.value).splitlines()]
    assert fnmatch.filter(lines, shown), lines


def test_reasoning_counts_only_where_it_is_expected() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    history = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "why?"},
    ]
    with fake_model("ok") as model:
        httpx2.post(
            f"{model.base_url('anthropic_messages')}/v1/messages",
            json={"model": "m", "max_tokens": 9, "messages": history},
            headers={"x-api-key": model.api_key},
        ).raise_for_status()
    model.assert_messages("go", Message("assistant", "Yes."), "why?")
    model.assert_messages("go", Message("assistant", (Reasoning("hm"), Text("Yes."))), "why?")
    with pytest.raises(AssertionError):
        model.assert_messages("go", Message("assistant", (Reasoning("no"), Text("Yes."))), "why?")


def test_a_message_as_providers_write_it_is_told_what_is_meant(model: SyncRollout) -> None:
    with pytest.raises(TypeError, match=r"not dict: .*: \('user', …\) is such a pair$"):
        model.assert_messages(..., {"role": "user", "content": "what to drink?"}, call=0)


def test_a_call_that_did_not_come_is_an_error(model: SyncRollout) -> None:
    with pytest.raises(
        AssertionError, match="there is no call with the index 3: the model was called 3 times"
    ):
        model.assert_messages(..., call=3)
