"""What is passed over because it was the same last time: the outcome is that of reading, counting and keeping all anew.

A conversation is edited at random between two calls: grown, cut, changed in its middle, its cache mark moved.
"""

from copy import deepcopy
from operator import is_, is_not
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triocept import Message, Text, ToolCall
from triocept._canonical.memory import Memory, MessageTable, common_head, shared_head
from triocept._canonical.tokens import Estimator, _Counted, estimate_input_tokens
from triocept.dialects import dialect

MESSAGES = dialect("anthropic_messages")
MARK = {"cache_control": {"type": "ephemeral"}}

texts = st.sampled_from(["", "a", "b", "ab", "a longer one " * 9])
numbers = st.lists(st.integers(0, 3), max_size=8)


@st.composite
def edits(draw: st.DrawFn) -> list[list[tuple[str, str]]]:
    """A conversation, call after call: who says what."""
    said: list[tuple[str, str]] = [("user", "task")]
    calls = [said]
    for _ in range(draw(st.integers(1, 8))):
        said = list(said)
        match draw(st.sampled_from(["grow", "grow", "grow", "change", "cut", "drop", "other"])):
            case "grow":
                said += [("assistant", draw(texts)), ("user", draw(texts))]
            case "change":
                place = draw(st.integers(0, len(said) - 1))
                said[place] = (said[place][0], draw(texts))
            case "cut":
                del said[draw(st.integers(1, len(said))) :]
            case "drop":
                del said[draw(st.integers(0, len(said) - 1))]
            case _:
                said = [("user", draw(texts))]
        said = said or [("user", "")]
        calls.append(said)
    return calls


def document(said: list[tuple[str, str]], marks: int) -> dict[str, Any]:
    """As Claude Code writes it: the last messages bear a cache mark, the earlier ones are bare strings."""
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in said]
    for message in messages[-marks:]:
        message["content"] = [{"type": "text", "text": message["content"], **MARK}]
    return {"model": "m", "max_tokens": 5, "messages": messages}


@given(edits(), st.integers(1, 3))
def test_what_is_remembered_reads_as_what_is_read_anew(
    calls: list[list[tuple[str, str]]], marks: int
) -> None:
    memory, estimator, table = Memory(), Estimator(), MessageTable()
    for said in calls:
        wire = document(said, marks)
        before = deepcopy(wire)
        request = MESSAGES.parse_request(wire, memory=memory)
        assert request == MESSAGES.parse_request(document(said, marks))
        assert estimator.input_tokens(request) == estimate_input_tokens(request)
        assert table.intern(request.messages) == request.messages
        assert wire == before, "the agent's document stays as it came"


@given(st.lists(numbers, max_size=6))
@settings(max_examples=300)
def test_equal_messages_are_one_object_whatever_the_table_passes_over(calls: list[list[int]]) -> None:
    table = MessageTable()
    kept: dict[bytes, Message] = {}
    for call in calls:
        messages = tuple(_message(number) for number in call)
        interned = table.intern(messages)
        assert interned == messages
        assert all(map(is_, table.intern(interned), interned))
        for message in interned:
            assert message is kept.setdefault(msgspec.json.encode(message), message)


def _message(number: int) -> Message:
    """0 and 1 are equal to Python, not in JSON."""
    return Message("assistant", (Text("x"), ToolCall("t", extra={"n": [1, True, 2, "1"][number]})))


@given(numbers, numbers)
def test_the_head_is_what_is_the_same_from_the_first_item_on(one: list[int], other: list[int]) -> None:
    head = common_head(one, other)
    assert one[:head] == other[:head]
    assert head in (len(one), len(other)) or one[head] != other[head]
    objects = [object() for _ in range(4)]
    these, those = [objects[each] for each in one], [objects[each] for each in other]
    assert common_head(these, those, is_not) == head


@given(numbers, numbers, st.integers(0, 60), st.integers(0, 60))
def test_the_shared_head_is_what_is_the_same_object_from_the_first_item_on(
    one: list[int], other: list[int], before: int, behind: int
) -> None:
    objects = [Message("user", (Text(f"{number}"),)) for number in range(4)]
    these, those = ([objects[0]] * before + [objects[each] for each in said] for said in (one, other))
    these += [objects[1]] * behind
    head = common_head(these, those, is_not)
    assert shared_head(these, those) == shared_head(tuple(these), tuple(those)) == head
    assert shared_head(those, these, before) == head


def test_an_item_before_an_equal_text_or_number_is_compared_by_itself() -> None:
    first, memory = {"a": 1}, Memory()

    def read(*items: object) -> tuple[str, ...]:
        return memory.read("d", "f", [first, *items], lambda item, path: repr(item))

    for last in ("", "x", 1, None, True):
        assert read(1, last) == (repr(first), "1", repr(last))
        assert read(True, last) == (repr(first), "True", repr(last))


def test_a_message_in_a_long_conversation_that_is_only_equal_is_kept_too() -> None:
    table, around = MessageTable(), [Message("user", (Text(f"{number}"),)) for number in range(200)]
    for size in range(0, 200, 20):  # the table checks some messages in each call
        table.intern(tuple(around[:size]))
    for number in range(4):
        for _ in range(3):
            again = Message("user", (Text("0"),))  # to be replaced by the first message
            said = (*around[:100], _message(number), *around[100:], again)
            assert [*map(msgspec.json.encode, table.intern(said))] == [*map(msgspec.json.encode, said)]


def test_a_mark_that_moves_has_only_the_end_counted_anew() -> None:
    counted: list[str] = []

    def count(item: str) -> int:
        counted.append(item)
        return len(item)

    counter = _Counted(count)
    said = [f"message {number}" for number in range(500)]
    assert counter.count((*said, "marked")) == sum(map(len, said)) + 6
    counted.clear()
    assert counter.count((*said, "plain", "answer", "marked")) == sum(map(len, said)) + 17
    assert counted == ["plain", "answer", "marked", "marked"], "what is new, and what is gone"


@pytest.mark.parametrize(
    ("before", "after"), [(True, 1), (1, True), (False, 0), (1, 1.0), (0, -0.0), (2**70, 2.0**70)]
)
def test_a_value_that_is_only_equal_is_read_anew(before: Any, after: Any) -> None:
    """To Python `True == 1 == 1.0`; to whoever the conversation is forwarded to they are three things."""

    def said(flag: Any) -> dict[str, Any]:
        use = {"type": "tool_use", "id": "t", "name": "f", "input": {"deep": [{"flag": flag}]}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": "ok"}
        messages = [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        return {"model": "m", "max_tokens": 5, "messages": messages}

    memory = Memory()
    MESSAGES.parse_request(said(before), memory=memory)
    read, anew = (MESSAGES.parse_request(said(after), memory=kept) for kept in (memory, Memory()))
    assert read.messages[1].tool_calls[0].arguments == anew.messages[1].tool_calls[0].arguments


@pytest.mark.parametrize(("before", "after"), [(True, 1), (1, True), (1, 1.0), (2**70, 2.0**70)])
def test_a_value_in_the_tools_that_is_only_equal_is_read_anew(before: Any, after: Any) -> None:
    """Outside of the conversation, too: the list of tools is compared whole."""

    def said(value: Any) -> dict[str, Any]:
        tool = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"default": value}}}}
        messages = [{"role": "user", "content": "go"}]
        return {"model": "m", "max_tokens": 5, "messages": messages, "tools": [tool]}

    memory = Memory()
    MESSAGES.parse_request(said(before), memory=memory)
    schema = MESSAGES.parse_request(said(after), memory=memory).tools[0].parameters
    assert type(schema["properties"]["a"]["default"]) is type(after)


def test_what_differs_in_the_order_of_its_keys_is_read_anew() -> None:
    """A call's arguments are a text, and a prompt is made of a schema as it stands."""

    def said(value: dict[str, Any]) -> dict[str, Any]:
        use = {"type": "tool_use", "id": "t", "name": "f", "input": value}
        messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": [use]}]
        tool = {"name": "f", "input_schema": {"type": "object", "properties": value}}
        return {"model": "m", "max_tokens": 5, "messages": messages, "tools": [tool]}

    memory = Memory()
    MESSAGES.parse_request(said({"a": 1, "b": 2}), memory=memory)
    read = MESSAGES.parse_request(said({"b": 2, "a": 1}), memory=memory)
    assert read.messages[1].tool_calls[0].arguments == '{"b":2,"a":1}'
    schema = read.tools[0].parameters
    assert list(schema["properties"]) == ["b", "a"]


@pytest.mark.parametrize("depth", [100, 600])
@pytest.mark.parametrize("place", ["metadata", "messages"])
def test_what_is_nested_deeply_is_read_as_often_as_it_comes(place: str, depth: int) -> None:
    def said() -> dict[str, Any]:
        deep: dict[str, Any] = {}
        for _ in range(depth):
            deep = {"a": deep}
        message = {"role": "user", "content": "go"} | ({"x": deep} if place == "messages" else {})
        return {"model": "m", "messages": [message], "metadata": deep if place == "metadata" else {}}

    chat, memory = dialect("openai_chat"), Memory()
    first, second = (chat.parse_request(said(), memory=memory) for _ in range(2))
    assert first == second
