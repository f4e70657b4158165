"""What is different in one turn's call from another's."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trace.telling import said, tell
from triocept import Message, Text, Tool, ToolCall, ToolResult, Trace, Turn
from triocept._canonical.form import message_key
from triocept._trace.diff import edit_of
from triocept._trace.graph import Graph
from triocept._trace.texts import text_of
from triocept.traces import Edit, MessageDiff, ToolsDiff, TurnDiff
from triocept.types import Opaque, Sampling


def diff(
    before: tuple[Message, ...],
    after: tuple[Message, ...],
    old: dict[str, object] | None = None,
    **new: object,
) -> TurnDiff:
    trace = Trace("r")
    tell(trace, before, **(old or {}))  # type: ignore[arg-type]
    tell(trace, after, **new)  # type: ignore[arg-type]
    return trace.diff(0, 1)


def kinds(found: TurnDiff) -> list[tuple[str, int | None, int | None]]:
    return [(each.kind, each.before, each.after) for each in found.messages]


def test_what_has_grown_at_its_end_is_edited_there() -> None:
    results = Message("user", (ToolResult(id="c", content=(Text("2 files"),)),))
    grown = Message("user", (*results.content, Text("Now give a summary.")))
    found = diff((*said("system: s", "task"), results), (*said("system: s", "task"), grown))
    assert kinds(found) == [("same", 0, 0), ("same", 1, 1), ("edited", 2, 2)]
    edit = found.changes[0].edit
    assert edit == Edit(at="end", place=7, added="\nNow give a summary.")
    assert edit.growth == 20


@pytest.mark.parametrize(("old", "new", "edit"), [
    ("a long text", "a long text, and more", Edit(at="end", place=11, added=", and more")),
    ("a long text, and more", "a long text", Edit(at="end", place=11, removed=", and more")),
    ("a long text", "Now: a long text", Edit(at="start", place=0, added="Now: ")),
    ("it is 10:15 of today", "it is 11:42 of today",
     Edit(at="middle", place=7, removed="0:15", added="1:42")),
    ("a thing", "another text that has nothing of it", None),
    ("", "text", None),
])  # fmt: skip
def test_an_edit_is_one_replacement_at_an_end_or_between(old: str, new: str, edit: Edit | None) -> None:
    assert edit_of(*said(f"user: {old}", f"user: {new}")) == edit


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_an_edit_makes_the_one_text_the_other(old: str, new: str) -> None:
    edit = edit_of(Message("user", (Text(old),)), Message("user", (Text(new),)))
    if edit is not None:
        end = edit.place + len(edit.removed)
        assert old[: edit.place] + edit.added + old[end:] == new
        assert old[edit.place : end] == edit.removed


def test_messages_of_two_roles_are_never_an_edit() -> None:
    assert edit_of(*said("user: hello", "assistant: hello")) is None


def test_what_is_no_text_and_differs_is_said_to_be_elsewhere() -> None:
    one, other = (Message("tool", (ToolResult(id="c", is_error=failed),)) for failed in (False, True))
    found = diff((*said("a"), one), (*said("a"), other))
    assert found.changes == (
        MessageDiff(kind="edited", before=1, after=1, old=one, new=other, edit=Edit(at="elsewhere", place=0)),
    )


def test_what_agents_change_without_meaning_it_is_the_same() -> None:
    marked = Message("user", (Text("task", {"cache_control": {"type": "ephemeral"}}),))
    call, again = ToolCall("t", '{"n": 1}', "call_1"), ToolCall("t", '{"n":1}', "x")
    before = (*said("task"), Message("assistant", (call,)), *said("more"))
    after = (marked, Message("assistant", (again,)), *said("more"))
    assert not diff(before, after).changes


def test_dropped_and_added_messages_stand_in_order_between_what_is_the_same() -> None:
    found = diff(
        said("system: s", "one", "assistant: gone", "two", "end"),
        said("system: s", "one", "two", "assistant: wholly new", "end", "last"),
    )
    assert kinds(found) == [
        ("same", 0, 0), ("same", 1, 1), ("dropped", 2, None), ("same", 3, 2), ("added", None, 3),
        ("same", 4, 4), ("added", None, 5),
    ]  # fmt: skip


texts = st.lists(st.sampled_from(["a", "b", "aa", "ab", ""]), max_size=8)


@given(texts, texts)
def test_the_parts_of_a_diff_are_the_two_conversations(old: list[str], new: list[str]) -> None:
    before, after = (said(*(f"user: {text}" for text in each)) for each in (old, new))
    found = diff(before, after).messages
    assert [each.before for each in found if each.before is not None] == [*range(len(old))]
    assert [each.after for each in found if each.after is not None] == [*range(len(new))]
    for each in found:
        assert each.old == (before[each.before] if each.before is not None else None)
        assert each.new == (after[each.after] if each.after is not None else None)
        if each.kind == "same":
            assert each.old is not None
            assert each.new is not None
            assert message_key(each.old) == message_key(each.new)


def tool(name: str, description: str = "d") -> Tool:
    return Tool(name=name, description=description)


def test_tools_are_compared_by_their_names() -> None:
    old = (tool("a"), tool("b"), tool("c"), tool("d"))
    new = (tool("d"), tool("a"), tool("b", "another"), tool("e"))
    found = diff(said("x"), said("x"), {"tools": old}, tools=new).tools
    assert found == ToolsDiff(added=("e",), dropped=("c",), edited=("b",), reordered=True, count=4)
    assert found
    same = diff(said("x"), said("x"), {"tools": old}, tools=old).tools
    assert same == ToolsDiff(count=4)
    assert not same


def test_settings_that_differ_are_told_by_their_paths() -> None:
    old = {
        "model": "m",
        "sampling": Sampling(temperature=0.5),
        "extra": {"user": 1, "k": 1},
        "previous_response": "r1",
    }
    found = diff(
        said("x"), said("x"), old, model="n", sampling=Sampling(top_p=0.5), extra={"user": True, "k": 1}
    )
    assert found.settings == {
        "model": ("m", "n"),
        "sampling.temperature": (0.5, None),
        "sampling.top_p": (None, 0.5),
        "extra.user": (1, True),
    }


def test_turns_are_named_by_number_or_id_or_themselves() -> None:
    trace = Trace("r")
    one, other = tell(trace, said("x")), tell(trace, said("y"))
    assert trace.diff(0, 1) == trace.diff("x0", "x1") == trace.diff(one, other)
    assert (trace.diff(1, 0).before, trace.diff(1, 0).after) == ("x1", "x0")
    with pytest.raises(LookupError, match="rollout r has no turn 7"):
        trace.diff(0, 7)


def test_long_conversations_that_differ_everywhere_are_compared_at_once() -> None:
    def turn(*texts: str) -> Turn:
        return tell(Trace("r"), said(*texts))

    one = turn(*(f"user: old {number} {'x' * number}" for number in range(2000)))
    other = turn(*(f"assistant: new {number}" for number in range(2000)))
    start = time.process_time()
    found = Trace("r").diff(one, other)
    assert len(found.changes) == 4000
    assert time.process_time() - start < 2


def test_a_part_that_nobody_reads_is_told_as_its_json() -> None:
    assert text_of(Message("user", (Opaque("openai_chat", {"b": 1, "a": [2]}),))) == '{"a":[2],"b":1}'


def test_equal_in_python_is_not_the_same_where_json_has_two_things() -> None:
    """`true` and `1` in a part that nobody reads."""
    trace = Trace("r")
    one, other = (Message("user", (Opaque("openai_chat", {"k": k}),)) for k in (1, True))
    tell(trace, (*said("a"), one), "b")
    tell(trace, (*said("a"), other), "b")
    tell(trace, (*said("a"), one, *said("assistant: b", "c")), "d")
    assert list(trace.parents.values()) == [None, None, "x0"]
    assert kinds(trace.diff(0, 1))[1][0] != "same"


def test_an_answer_that_comes_back_with_another_thing_is_another() -> None:
    nodes = Graph().nodes
    one, other = (Message("assistant", (Opaque("openai_chat", {"k": k}),)) for k in (1, True))
    asked = nodes.end_of(said("a"))
    answered = nodes.end_of_answer(asked, said("a"), (one,))
    assert nodes.end_of((*said("a"), one)) == answered
    assert nodes.end_of((*said("a"), other)) != answered
