"""What makes two calls the same: the rule itself, without an agent. (How agents try again: `test_retries`.)"""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from triocept import Message, Request, Text, Tool, ToolResult
from triocept._rollout.answer import Answer, Subscription
from triocept._rollout.calls import Calls, attempt_of, retry_key
from triocept._rollout.retries import meaning
from triocept.dialects import dialect
from triocept.types import Opaque, OutputFormat, ToolChoice

COUNT = "x-stainless-retry-count"
FIRST, MARKED = {COUNT: "0"}, {COUNT: "1"}


def same_request(one: Request, other: Request) -> bool:
    return meaning(one) == meaning(other)


def request(text: str = "fix it", **more: object) -> Request:
    said = (Message("user", (Text(text),)),)
    return Request(dialect="openai_responses", model="m", messages=said, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "more", [{"continued_from": "resp_1"}, {"user": "u"}, {"stream": True}, {"include_usage": True}]
)
def test_how_a_call_is_told_and_delivered_is_no_part_of_what_it_says(more: dict[str, object]) -> None:
    """The history may be sent whole the second time, where the first named the earlier answer."""
    assert same_request(request(**more), request())
    assert same_request(request(), request(**more))


def test_what_a_call_says_to_the_model_makes_it_another() -> None:
    assert not same_request(request(), request("mend it"))
    assert not same_request(request(previous_response="resp_1"), request())


def test_calls_with_other_last_words_are_not_even_alike() -> None:
    assert retry_key(request(), None) == retry_key(request(continued_from="resp_1"), None)
    assert retry_key(request(), None) != retry_key(request("mend it"), None)
    one, other = (Message("tool", (ToolResult(id=call),)) for call in ("a", "b"))
    told = [msgspec.structs.replace(request(), messages=(each,)) for each in (one, other)]
    assert retry_key(told[0], None) != retry_key(told[1], None)


@pytest.mark.parametrize(
    ("count", "attempt"),
    [("0", 1), ("2", 3), ("999999", 1_000_000), ("1000000", 1), ("-1", 1), ("", 1), ("x", 1)],
)
def test_which_try_a_call_is_says_its_header_if_that_is_a_number_within_reason(
    count: str, attempt: int
) -> None:
    assert attempt_of({COUNT: count}) == attempt
    assert attempt_of({}) == 1


SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}}
MORE = {"type": "object", "properties": {"title": {"type": "string"}, "metadata": {"type": "string"}}}


def tool(schema: dict[str, object], extra: dict[str, object] | None = None) -> Tool:
    return Tool(name="t", parameters=schema, extra=extra)


@pytest.mark.parametrize(("one", "other"), [
    ({"tools": (tool(SCHEMA),)}, {"tools": (tool(MORE),)}),
    ({"output_format": OutputFormat(kind="json_schema", schema=SCHEMA)},
     {"output_format": OutputFormat(kind="json_schema", schema=MORE)}),
    ({"extra": {"foo": {"metadata": 1}}}, {"extra": {"foo": {"metadata": 2}}}),
    ({"extra": {"foo": {"extra": {}}}}, {"extra": {"foo": {}}}),
])  # fmt: skip
def test_a_name_that_is_a_field_of_the_wire_elsewhere_counts_within_a_schema_and_a_field_of_ones_own(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert not same_request(request(**one), request(**other))


MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(("marked", "plain"), [
    ({"extra": MARK | {"metadata": {"user_id": "u"}, "prompt_cache_key": "k"}}, {}),
    ({"tools": (tool(SCHEMA, MARK),)}, {"tools": (tool(SCHEMA),)}),
    ({"tool_choice": ToolChoice(mode="required", extra={})}, {"tool_choice": ToolChoice(mode="required")}),
    ({"framing": "json_array"}, {}),
])  # fmt: skip
def test_cache_marks_who_asks_and_how_the_answer_is_framed_say_nothing_to_the_model(
    marked: dict[str, object], plain: dict[str, object]
) -> None:
    assert same_request(request(**marked), request(**plain))


def test_a_cache_mark_on_a_message_or_a_part_says_nothing_to_the_model() -> None:
    def said(mark: dict[str, object] | None) -> Request:
        opaque = Opaque("anthropic_messages", {"type": "thing"} | (mark or {}))
        result = ToolResult(id="c", content=(Text("out", extra=mark), opaque), extra=mark)
        message = Message("user", (Text("fix it", extra=mark), result), extra=mark)
        return Request(dialect="anthropic_messages", model="m", messages=(message,))

    assert same_request(said(MARK), said(None))
    assert not same_request(said({"citations": []}), said(None))


@pytest.mark.parametrize("place", ["content", "source"])
def test_a_cache_mark_within_the_content_of_a_block_says_nothing_to_the_model(place: str) -> None:
    """Anthropic's types allow one on the blocks of a search result, and of a document whose source is content."""

    def said(mark: dict[str, object]) -> Request:
        content = [{"type": "text", "text": "x"} | mark]
        raw = (
            {"content": content}
            if place == "content"
            else {"source": {"type": "content", "content": content}}
        )
        message = Message("user", (Opaque("anthropic_messages", {"type": "thing"} | raw),))
        return Request(dialect="anthropic_messages", model="m", messages=(message,))

    assert same_request(said(MARK), said({}))
    assert not same_request(said({"citations": []}), said({}))


def test_a_cache_mark_within_what_chat_completions_wrap_a_tool_or_a_part_in_says_nothing_to_the_model() -> (
    None
):
    """litellm and OpenRouter take one there."""

    def said(mark: dict[str, object], **schema: object) -> Request:
        function = {"name": "f", "parameters": {"type": "object", "properties": schema}} | mark
        image = {"type": "image_url", "image_url": {"url": "https://x.invalid/a.png"} | mark}
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"} | mark}
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "tool_calls": [call]},
        ]
        tools = [
            {"type": "function", "function": function},
            {"type": "custom", "custom": {"name": "g"} | mark},
        ]
        return dialect("openai_chat").parse_request({"model": "m", "messages": messages, "tools": tools})

    assert same_request(said(MARK), said({}))
    assert not same_request(said({"x": 1}), said({}))
    assert not same_request(said({}, cache_control={"type": "string"}), said({}))


class Looked(SimpleNamespace):
    """An exchange that runs, and counts how often it is looked at."""

    __hash__ = object.__hash__
    looks = 0

    @property
    def settled(self) -> bool:
        Looked.looks += 1
        return False


def test_equal_calls_are_not_all_looked_through_for_each_that_is_asked_again() -> None:
    """Eight thousand, whose clients had left, took seven seconds, in the event loop."""
    one, calls = request(), Calls("join")
    like = retry_key(one, None)
    exchanges: list[Any] = [Looked(request=one, retry_key=like, answer=Answer()) for _ in range(500)]
    for exchange in exchanges:
        calls.add(exchange)
        calls.leave(Subscription(exchange.answer), exchange)
        exchange.answer.subscriptions.clear()
    Looked.looks = 0
    for exchange in exchanges:
        assert calls.find(one, like, FIRST, named=False) is exchange
        Subscription(exchange.answer)
    assert calls.find(one, like, FIRST, named=False) is None
    assert calls.find(one, like, MARKED, named=False) is exchanges[0]
    assert Looked.looks < 5 * len(exchanges)


def test_a_call_that_was_lost_asked_again_and_lost_again_is_found_again() -> None:
    one, calls = request(), Calls("join")
    like = retry_key(one, None)
    exchange: Any = Looked(request=one, retry_key=like, answer=Answer())
    calls.add(exchange)
    for _ in range(3):
        subscription = Subscription(exchange.answer)
        assert calls.find(one, like, FIRST, named=False) is None
        subscription.close()
        calls.leave(subscription, exchange)
        assert calls.find(one, like, FIRST, named=False) is exchange


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside another"])
def test_a_call_that_was_lost_and_has_ended_is_found_among_those_that_run_by_none_that_comes_later(
    others: int,
) -> None:
    one, other, calls = request(), request(extra={"seed": 1}), Calls("join")
    like = retry_key(one, None)
    turn: Any = SimpleNamespace(request=one)
    beside: list[Any] = [
        Looked(request=other, retry_key=like, answer=Answer(), outcome=None) for _ in range(others)
    ]
    exchange: Any = Looked(request=one, retry_key=like, answer=Answer(), outcome=None)
    for each in (*beside, exchange):
        calls.add(each)
        calls.leave(Subscription(each.answer), each)
        each.answer.subscriptions.clear()
    assert calls.find(one, like, FIRST, named=False) is exchange
    calls.end(exchange, turn)
    calls.add(Looked(request=other, retry_key=like, answer=Answer(), outcome=None))  # type: ignore[arg-type]
    assert calls.find(one, like, FIRST, named=False) is None
