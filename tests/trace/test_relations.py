"""How a turn stands to those before it: by name."""

import re

import msgspec
import pytest

from tests.trace.telling import TOOLS, said, tell
from triocept import Message, Response, Text, Tool, ToolCall, ToolResult, Trace, Usage
from triocept._trace import graph
from triocept._trace.graph import Recent
from triocept._trace.trace import TraceWriter
from triocept.traces import Relation


def relations(trace: Trace) -> list[tuple[str, str | None]]:
    return [(each.kind, each.turn) for each in trace.relations.values()]


TASK = said("system: s", "task")
SUMMARY = "<analysis>well</analysis><summary>The user wants hello.</summary>"
GOES_ON = said("system: s", "It was too long. Summary:\nThe user wants hello.")


def test_a_run_begins_and_continues() -> None:
    trace = Trace("r")
    tell(trace, TASK, "a")
    tell(trace, (*TASK, *said("assistant: a", "b")), "c")
    assert trace.relations == {"x0": Relation(kind="begins"), "x1": Relation(kind="continues", turn="x0")}


def test_what_is_asked_again_is_a_retry_where_it_got_no_answer_else_a_repeat() -> None:
    trace = Trace("r")
    tell(trace, TASK, None, "failed", of="s")
    tell(trace, TASK, "a", of="s")
    tell(trace, TASK, "b", of="s")
    tell(trace, TASK, "c", of="s", attempt=2)
    tell(trace, TASK, "c", of="another")
    assert relations(trace) == [
        ("begins", None), ("retry", "x0"), ("repeat", "x1"), ("retry", "x2"), ("begins", None),
    ]  # fmt: skip


@pytest.mark.parametrize("of", ["s", ""])
def test_a_conversation_that_goes_on_from_a_summary_was_compacted_by_the_turn_that_gave_it(of: str) -> None:
    trace = Trace("r")
    tell(trace, TASK, "a", of=of)
    tell(trace, (*TASK, *said("assistant: a", "CRITICAL: your task is a summary")), SUMMARY, of=of)
    tell(trace, GOES_ON, "done", of=of)
    assert relations(trace) == [("begins", None), ("continues", "x0"), ("compaction", "x1")]
    assert len({each.id for each in trace.conversations.values()}) == 1, "it is the same conversation"


def test_a_summary_without_marks_counts_where_it_was_asked_for() -> None:
    trace = Trace("r")
    tell(trace, TASK, "a", of="s")
    tell(
        trace, (*TASK, *said("assistant: a", "Create a handoff for another model.")), "It went well.", of="s"
    )
    tell(trace, said("system: s", "task", "Another model began:\nIt went well."), "done", of="s")
    assert relations(trace)[-1] == ("compaction", "x1")


def test_what_an_answer_is_told_in_is_no_compaction_where_nobody_asked_for_a_summary() -> None:
    trace = Trace("r")
    tell(trace, TASK, "It went well.", of="s")
    tell(trace, said("system: anew", "You said: It went well."), "done", of="s")
    assert relations(trace)[-1] == ("rewrite", "x0")


def test_a_history_that_is_told_in_one_message_with_its_questions_is_no_compaction() -> None:
    """DSPy asks each time with all that was asked and answered so far in one text."""
    trace = Trace("r")
    tell(trace, said("system: s", "Write a summary."), "It went well.", tools=())
    tell(trace, said("system: s", "Write a summary. It went well. Go on."), "done", tools=())
    assert relations(trace)[-1][0] != "compaction"


def test_a_summary_of_another_conversation_compacts_nothing() -> None:
    trace = Trace("r")
    tell(trace, TASK, "a", of="s")
    tell(trace, said("system: s", "a summary, please"), SUMMARY, of="other")
    tell(trace, GOES_ON, "done", of="s")
    assert relations(trace)[-1] == ("rewrite", "x0")


def test_where_the_summary_was_asked_for_aside_the_conversation_that_was_going_on_is_compacted() -> None:
    """gemini-cli asks for it without tools, and names no conversation."""
    trace = Trace("r")
    tell(trace, TASK, "a")
    tell(trace, said("system: you summarize", "the history: …"), SUMMARY, tools=())
    tell(trace, GOES_ON, "done")
    assert relations(trace) == [("begins", None), ("side", "x0"), ("compaction", "x1")]
    assert trace.conversations["x2"] == trace.conversations["x0"]


HAND_OVER = Response.of(ToolCall("transfer_to_adder", "{}", "c1"))
HANDED_OVER = (
    Message("assistant", HAND_OVER.content),
    Message("tool", (ToolResult(id="c1", content=(Text('{"assistant": "Adder"}'),)),)),
)
QUOTED = said(  # google-adk 2.13
    "For context: below is a transcript of what another agent did\n[Triage] called tool `transfer_to_adder`",
    "For context: below is a transcript of what another agent did\n[Triage] `transfer_to_adder` tool returned",
)


@pytest.mark.parametrize("behind", [HANDED_OVER, QUOTED])
@pytest.mark.parametrize("tools", [TOOLS, ()])
def test_a_conversation_that_is_handed_over_is_told_anew_under_another_system_prompt(
    behind: tuple[Message, ...], tools: tuple[Tool, ...]
) -> None:
    trace, handed_over = Trace("r"), (*said("system: you add", "task"), *behind)
    tell(trace, TASK, HAND_OVER)
    tell(trace, handed_over, "a", tools=tools)
    tell(trace, (*handed_over, *said("assistant: a", "more")), "b", tools=tools)
    assert relations(trace) == [("begins", None), ("rewrite", "x0"), ("continues", "x1")]
    assert {(each.id, each.kind) for each in trace.conversations.values()} == {("x0", "main")}


@pytest.mark.parametrize("other", [
    said("system: a worker of its own", "task", "you are number two"),
    said("system: a worker of its own", "another task", "transfer_to_adder"),
    (*said("system: a worker of its own", "task", "assistant: something else"), HANDED_OVER[1]),
])  # fmt: skip
def test_what_has_not_had_the_answer_is_not_handed_over(other: tuple[Message, ...]) -> None:
    trace = Trace("r")
    tell(trace, TASK, HAND_OVER)
    tell(trace, other, "a")
    assert relations(trace)[1] == ("sub_agent", None)


LOOKED = (
    Message("assistant", (Text("I look."), ToolCall("look", "{}", "c0"))),
    Message("tool", (ToolResult(id="c0", content=(Text("a red door"),)),)),
)
NESTED = (
    "For context, here is the conversation so far between the user and the previous agent:\n<CONVERSATION HISTORY>\n"
    "1. user: task\n"
    '2. {"call_id": "c1", "name": "transfer_to_adder", "arguments": "{}", "type": "function_call"}\n'
    "</CONVERSATION HISTORY>"
)


@pytest.mark.parametrize(("looked", "history"), [
    ((), said("task")),
    (LOOKED, said("task", "assistant: I look.")),
    ((), said(f"assistant: {NESTED}")),
    (LOOKED, said(f"assistant: {NESTED}", "and be quick")),
])  # fmt: skip
def test_a_history_that_is_filtered_or_nested_at_a_handoff_continues_its_conversation(
    looked: tuple[Message, ...], history: tuple[Message, ...]
) -> None:
    """openai-agents 0.24: `remove_all_tools` as input filter, and `nest_handoff_history`."""
    trace, task = Trace("r"), (*TASK, *looked)
    tell(trace, task, HAND_OVER)
    tell(trace, (*said("system: you add"), *history), "a")
    assert relations(trace) == [("begins", None), ("rewrite", "x0")]
    assert {(each.id, each.kind) for each in trace.conversations.values()} == {("x0", "main")}


def test_a_task_of_several_lines_is_found_in_a_nested_history() -> None:
    trace, task = Trace("r"), 'say "yes"\ntwice'
    nested = NESTED.replace("user: task", msgspec.json.encode({"role": "user", "content": task}).decode())
    tell(trace, said("system: s", task), HAND_OVER)
    tell(trace, said("system: you add", f"assistant: {nested}"), "a")
    assert relations(trace)[1] == ("rewrite", "x0")


@pytest.mark.parametrize("history", [said("task"), said(f"assistant: {NESTED.replace('task', 'other')}")])
def test_a_sub_agent_with_the_same_task_is_not_handed_over(history: tuple[Message, ...]) -> None:
    trace = Trace("r")
    tell(trace, TASK, Response.of(ToolCall("ask_adder", '{"question": "task"}', "c1")))
    tell(trace, (*said("system: you add"), *history), "a")
    assert trace.conversations["x1"].kind == "sub_agent"


def test_a_filtered_history_behind_another_turn_is_not_handed_over() -> None:
    trace = Trace("r")
    tell(trace, TASK, HAND_OVER)
    tell(trace, said("system: you check", "is this well?"), "yes")
    tell(trace, said("system: you add", "task"), "a")
    assert relations(trace)[2] == ("sub_agent", None)


def test_what_is_asked_aside_about_a_conversation_is_not_that_conversation_handed_over() -> None:
    trace = Trace("r")
    tell(trace, TASK, "a")
    tell(trace, said("system: suggest", "task", "assistant: a", "What may be asked next?"), "b", tools=())
    assert trace.conversations["x1"] != trace.conversations["x0"]


CREW = "\nCurrent Task: {}\n\nYou MUST return the actual complete content as the final answer, not a summary.\n\n"


def test_a_member_of_a_crew_that_has_no_tools_is_no_side_call() -> None:
    """CrewAI 1.15; the first one's answer is the second one's context."""
    trace = Trace("r")
    tell(trace, said("system: You are Adder.", CREW.format("What is 2+3?")), "It is five.")
    context = CREW.format("Write it up.") + "This is the context you're working with:\nIt is five."
    tell(trace, said("system: You are Writer.", context), "It is five, as everybody can see.", tools=())
    tell(
        trace,
        said("system: You write titles.", f"A title for: {CREW.format('What is 2+3?')}"),
        "2+3",
        tools=(),
    )
    kinds = [each.kind for each in trace.conversations.values()]
    assert kinds == ["main", "sub_agent", "side"]


def launching(*prompts: str) -> Response:
    calls = [ToolCall.of("Agent", description="d", prompt=prompt) for prompt in prompts]
    return Response.of("helpers", *calls)


COUNT, LOOK = "Count the files in this folder.", "Look at the time, and tell it."


@pytest.mark.parametrize("named", [True, False])
def test_a_sub_agent_was_started_by_the_tool_call_that_says_its_task(named: bool) -> None:
    trace = Trace("r")
    names = {each: {"of": each} if named else {} for each in "sab"}
    sub = {"kind": "sub_agent"} if named else {}
    tell(trace, TASK, launching(COUNT, LOOK), **names["s"])
    tell(trace, said("system: sub", f"<reminder>\n{LOOK}"), "late", **names["a"], **sub)
    tell(trace, said("system: sub", COUNT), "2", **names["b"], **sub)
    tell(trace, said("system: sub", COUNT, "assistant: 2", "sure?"), "yes", **names["b"], **sub)
    assert list(trace.relations.values()) == [
        Relation(kind="begins"),
        Relation(kind="sub_agent", turn="x0", call=1),
        Relation(kind="sub_agent", turn="x0", call=0),
        Relation(kind="continues", turn="x2"),
    ]


@pytest.mark.parametrize("depth", [500, 3_000, 100_000])
def test_arguments_that_are_nested_however_deep_start_nobody_and_stop_nothing(depth: int) -> None:
    trace, deep = Trace("r"), f'{{"a": {"[" * depth}{"]" * depth}}}'
    tell(trace, said("go"), Response.of(ToolCall("t", deep, "c")))
    tell(trace, said("another"), of="s", kind="sub_agent")
    assert trace.relations["x1"].kind == "sub_agent"
    assert "t" in str(trace.find("[[[")[0])


def test_sub_agents_of_one_task_were_started_by_a_call_each() -> None:
    trace = Trace("r")
    tell(trace, TASK, launching(COUNT, COUNT), of="s")
    tell(trace, said(COUNT), "2", of="a", kind="sub_agent")
    tell(trace, said(COUNT), "2", of="b", kind="sub_agent")
    tell(trace, said(COUNT), "2", of="c", kind="sub_agent")
    assert [each.call for each in trace.relations.values()] == [None, 0, 1, 0], "and the first by default"


def test_a_short_task_has_to_be_all_that_is_said() -> None:
    trace = Trace("r")
    tell(trace, TASK, launching("go"), of="s")
    tell(trace, said("let it go, please"), "a", of="a", kind="sub_agent")
    tell(trace, said("go"), "b", of="b", kind="sub_agent")
    assert list(trace.relations.values())[1:] == [
        Relation(kind="sub_agent"),
        Relation(kind="sub_agent", turn="x0", call=0),
    ]


def test_a_title_does_not_take_the_call_of_the_sub_agent_whose_task_it_tells() -> None:
    trace = Trace("r")
    tell(trace, TASK, launching(COUNT, COUNT), of="s")
    tell(trace, said(f"A title for: {COUNT}"), "Counting", of="s", kind="side", tools=())
    tell(trace, said(COUNT), "2", of="a", kind="sub_agent")
    assert relations(trace)[1] == ("side", "x0")
    assert trace.relations["x2"] == Relation(kind="sub_agent", turn="x0", call=0)


def test_a_side_call_stands_where_its_conversation_was() -> None:
    trace = Trace("r")
    tell(trace, said("title of: task"), "T", of="s", kind="side", tools=())
    tell(trace, TASK, "a", of="s")
    tell(trace, (*TASK, *said("assistant: a", "b")), "c", of="s")
    tell(trace, said("is this a new topic?"), "no", of="s", kind="side", tools=())
    tell(trace, said("count words"), "2", kind="tool")
    assert relations(trace) == [
        ("side", None), ("begins", None), ("continues", "x1"), ("side", "x2"), ("tool", "x2"),
    ]  # fmt: skip


def test_a_conversation_that_leaves_another_continues_it() -> None:
    trace = Trace("r")
    tell(trace, TASK, "a", of="s")
    tell(trace, (*TASK, *said("assistant: a", "b")), "c", of="fork")
    tell(trace, (*TASK, *said("assistant: a", "a suggestion?")), "c", of="s", kind="side")
    assert relations(trace)[1:] == [("continues", "x0"), ("side", "x0")]


def test_branches_hold_each_turn_once_and_say_what_they_leave() -> None:
    trace = Trace("r")
    tell(trace, TASK, "a")
    tell(trace, (*TASK, *said("assistant: a", "b")), "c")
    tell(trace, (*TASK, *said("assistant: a", "other")), "d")
    tell(trace, (*TASK, *said("assistant: a", "b", "assistant: c", "e")), "f")
    tell(trace, said("system: another", "x"), "y")
    assert [([turn.number for turn in each.turns], each.leaves) for each in trace.branches] == [
        ([0, 1, 3], None),
        ([2], "x0"),
        ([4], None),
    ]
    assert trace.branches[2].conversation == trace.conversations["x4"]
    assert [len(thread) for thread in trace.threads] == [2, 3, 1], "what they share stands in each"


def test_turns_are_found_where_it_came_up_first() -> None:
    trace = Trace("r")
    call = ToolCall.of("look", where="the garden")
    result = Message("tool", (ToolResult(id="", content=(Text("a red door"),)),))
    tell(trace, TASK, Response.of("I look.", call))
    history = (*TASK, Message("assistant", (Text("I look."), call)), result)
    tell(trace, history, "There is a door.")
    tell(trace, (*history, *said("assistant: There is a door.", "open it")), None, "failed", model="n")

    def found(*text: str, **wanted: str) -> list[int]:
        return [turn.number for turn in trace.find(*text, **wanted)]  # type: ignore[arg-type]

    assert found("garden") == [0]
    assert found("a red") == [1]
    assert found("door") == [1]
    assert found("task") == [0]
    assert found("open") == [2]
    assert found("nothing of it") == []
    assert found() == [0, 1, 2]
    assert found(tool="look") == [0]
    assert found(outcome="failed") == found(model="n") == [2]
    assert found("I look", kind="main", conversation=trace.conversations["x0"].id) == [0]
    assert found(kind="side") == []
    tell(trace, said("more"), "a garden gate")
    assert found("garden") == [0, 3], "what has come since is found, too"


@pytest.mark.parametrize("wanted", [{"kind": "sub-agent"}, {"outcome": "error"}])
def test_a_kind_or_an_outcome_that_there_is_not_is_told_and_not_searched_for(wanted: dict[str, str]) -> None:
    (name,) = wanted
    with pytest.raises(ValueError, match=f"{name} must be 'main', |{name} must be 'answered', "):
        Trace("r").find(**wanted)  # type: ignore[arg-type]


def test_what_holds_a_conversation_is_shown_in_few_words() -> None:
    trace = Trace("r")
    tell(trace, TASK, Response.of("I look " + "about. " * 99, ToolCall.of("look", where="x" * 999)))
    tell(trace, (*TASK, *said("assistant: a", "b" * 999)), None, "failed")
    assert repr(trace[1]) == "<Turn 1 of rollout r, failed>"
    assert repr(trace[0]).startswith("<Turn 0 of rollout r, answered: 'I look ")
    assert repr(trace[0]).endswith(", look>")
    assert repr(trace.diff(0, 1)) == "<TurnDiff x0 to x1: messages 2 same, 2 added; settings []>"
    assert len(repr(trace.branches)) < 999


def test_a_pattern_is_searched_for() -> None:
    trace = Trace("r")
    tell(trace, TASK, "hello 42")
    assert len(trace.find(re.compile(r"\d+$"))) == 1
    assert not trace.find(re.compile(r"^\d"))


def test_usage_is_what_was_said_with_the_childrens_and_estimates_where_nobody_counted() -> None:
    def counted(usage: Usage | None) -> Response:
        return Response((Text("four letters."),), usage=usage)

    trace, child = Trace("r"), Trace("child")
    assert trace.usage == Usage(input_tokens=0, output_tokens=0)
    tell(trace, TASK, counted(Usage(input_tokens=10, output_tokens=1, cached_tokens=4)))
    tell(trace, said("b"), counted(Usage(input_tokens=20, output_tokens=2)))
    assert trace.usage == Usage(input_tokens=30, output_tokens=3, cached_tokens=4)
    TraceWriter(trace).add_child(child)
    tell(child, said("c"), counted(Usage(input_tokens=100, output_tokens=10, reasoning_tokens=3)))
    assert trace.usage == Usage(input_tokens=130, output_tokens=13, cached_tokens=4, reasoning_tokens=3)
    tell(trace, said("d"), counted(None))
    assert trace.usage.estimated
    assert trace.usage.input_tokens > 130
    before = trace.usage
    tell(trace, said("e"), None, "refused")
    assert trace.usage == before, "where nothing was answered nothing was used"


def test_eight_conversations_that_take_turns_cost_what_is_new() -> None:
    looked = 0
    number_of_one = graph._Nodes._number_of_one

    def look(nodes: graph._Nodes, message: Message) -> int:
        nonlocal looked
        looked += 1
        return number_of_one(nodes, message)

    trace = Trace("r")
    histories = [said(f"system: s{number}", "task") for number in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph._Nodes, "_number_of_one", look)
        for number in range(400):
            history = histories[number % 8]
            tell(trace, history, f"answer {number}", tools=TOOLS)
            histories[number % 8] = (*history, *said(f"assistant: answer {number}", f"more {number}"))
            assert len(trace.relations) == len(trace)
    assert looked == 16 + 392, "each message that is new, and no answer that comes back as it was"


def test_the_conversations_that_are_forgotten_are_those_that_were_told_longest_ago() -> None:
    recent: Recent[int] = Recent()
    going_on = said("system: the one that goes on", "task")
    recent.go_on(going_on).known.extend([0, 1])
    for number in range(20):
        recent.go_on(said(f"system: {number}", "task", "more")).known.extend([0, 1, 2])
        going_on = (*going_on, *said("more"))
        told = recent.go_on(going_on)
        assert len(told.known) == len(going_on) - 1
        told.known.append(9)
    assert recent.go_on(said("system: 0", "task", "more")).known == []


def test_a_call_without_tools_that_asks_for_a_summary_is_a_side_call_however_long_it_is() -> None:
    """qwen-code sends its whole history with the question."""
    trace = Trace("r")
    history = (*TASK, *said("assistant: a", "b", "assistant: c", "d"))
    tell(trace, history, "e")
    tell(
        trace, (*said("system: other"), *history[1:], *said("Generate the <state_snapshot>.")), "f", tools=()
    )
    assert trace.conversations["x1"].kind == "side"
    assert relations(trace)[1] == ("side", "x0")
