"""Drift: its names, which the messages decide first, and both boundaries."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trace.tokenized import Given, said, tokens, trace_of
from triocept import Message, Response, Text, Tool, ToolCall
from triocept._trace.tokens import packed_ids
from triocept._trace.views.drift import answer_kept, common_ids
from triocept.traces import Conversation, Drift, DriftReport, Tokens, branches, drift, steps

PROMPT, COMPLETION = [1, 2, 3, 4], [10, 11, 12, 13, 5]
"""The last id ends the turn."""
ASKED = said("system: be good", "user: hello")
ANSWERED = (*ASKED, *said("assistant: hi", "user: go on"))


def of(prompt: list[int], messages: tuple[Message, ...] = ANSWERED, **more: Any) -> DriftReport:
    """What becomes of the first turn in a second one with this prompt."""
    first = Given(PROMPT, COMPLETION, ASKED, "hi")
    return drift(trace_of([first, Given(prompt, [20, 5], messages, "done", **more)]))


def second(report: DriftReport) -> Drift:
    assert report.pairs[0].name == "new_root"
    return report.pairs[1]


@pytest.mark.parametrize(("prompt", "name", "also", "kept"), [
    ([*PROMPT, *COMPLETION, 6], "extends", None, (4, 5)),
    ([*PROMPT, *COMPLETION[:-1], 7, 6], "close_trim", None, (4, 4)),
    ([*PROMPT, *COMPLETION[:-2], 7, 6], "close_trim", None, (4, 3)),
    ([*PROMPT, 10, 99, 12, 13, 5, 6], "resampled_text", None, (4, 1)),
    ([*PROMPT, 99, 6], "resampled_text", None, (4, 0)),
    ([*PROMPT[:-1], *COMPLETION, 6], "template_drift", None, (3, 5)),
    ([*PROMPT[:-1], *COMPLETION[:-1], 6], "template_drift", "close_trim", (3, 4)),
    ([*PROMPT[:-1], 10, 99, 13, 5, 6], "template_drift", "resampled_text", (3, 1)),
    ([8, *PROMPT, *COMPLETION, 6], "template_drift", None, (0, 5)),
])  # fmt: skip
def test_where_the_messages_are_the_same_a_difference_is_the_template_or_the_tokenizer(
    prompt: list[int], name: str, also: str | None, kept: tuple[int, int]
) -> None:
    pair = second(of(prompt))
    assert (pair.name, pair.also, pair.messages) == (name, also, "same")
    assert (pair.prompt_kept, pair.answer_kept) == kept
    assert (pair.prompt_length, pair.answer_length) == (4, 5)
    assert (pair.turn, pair.earlier) == ("x1", "x0")


NONCE = said("system: x-anthropic-billing-header: cch=1", "user: hello")
OTHER_NONCE = said("system: x-anthropic-billing-header: cch=2", "user: hello", "assistant: hi", "user: go on")


@pytest.mark.parametrize("more", [
    {"messages": (*ASKED, *said("assistant: hi", "user: go on")), "tools": (Tool(name="other"),)},
    {"messages": said("system: be better", "user: hello", "assistant: hi", "user: go on")},
    {"messages": said("system: be good", "user: summary of hello", "assistant: hi", "user: go on")},
])  # fmt: skip
def test_where_the_messages_or_the_tools_differ_it_is_the_agents_doing(more: dict[str, Any]) -> None:
    conversation = Conversation(id="c")
    first = Given(PROMPT, COMPLETION, ASKED, "hi", conversation=conversation)
    changed = Given([1, 2, 99, *COMPLETION], [20], answer="done", conversation=conversation, **more)
    pair = second(drift(trace_of([first, changed])))
    assert (pair.name, pair.prompt_kept) == ("history_rewrite", 2)
    assert pair.messages != "same"


def test_a_line_that_is_new_in_each_call_is_the_agents_doing_though_it_makes_no_other_conversation() -> None:
    first = Given(PROMPT, COMPLETION, NONCE, "hi")
    pair = second(drift(trace_of([first, Given([1, 99, 3, 4, *COMPLETION], [20], OTHER_NONCE, "done")])))
    assert (pair.name, pair.earlier) == ("history_rewrite", "x0")


def test_marks_for_a_cache_and_arguments_that_are_written_anew_are_no_edit() -> None:
    call = ToolCall("bash", '{"command":"ls"}', id="c1")
    told = Message("assistant", (ToolCall("bash", '{"command": "ls"}', id="c1"),))
    marked = Message("user", (Text("hello", extra={"cache_control": {"type": "ephemeral"}}),))
    first = Given(PROMPT, COMPLETION, (marked,), Response.of(call))
    again = Given([*PROMPT, 99], [20], (*said("hello"), told, *said("go on")), "done")
    pair = second(drift(trace_of([first, again])))
    assert (pair.name, pair.messages) == ("resampled_text", "same")


def test_a_conversation_that_has_nothing_to_do_with_another_is_a_new_root_though_their_prompts_begin_alike() -> (
    None
):
    """Any two prompts share the token that begins a message."""
    report = of(
        [1, 2, 99], said("system: be good", "user: a title, please"), conversation=Conversation(id="t")
    )
    assert second(report).name == "new_root"
    assert second(report).earlier is None
    assert report.counts == {"new_root": 2}


def test_the_same_question_asked_twice_is_no_drift() -> None:
    conversation = Conversation(id="c")
    one, other = (Given(PROMPT, COMPLETION, ASKED, "hi", conversation=conversation) for _ in range(2))
    assert [pair.name for pair in drift(trace_of([one, other])).pairs] == ["new_root", "new_root"]


def test_a_template_that_does_the_same_each_turn_is_one_alarm() -> None:
    """It lets the model go on from an id (4) that it leaves out of history."""
    messages, history, turns = list(ASKED), [1, 2, 3], []
    for number in range(4):
        answer = f"answer {number}"
        turns.append(Given([*history, 4], [10 + number, 5], tuple(messages), answer))
        messages += said(f"assistant: {answer}", f"user: {number}")
        history = [*history, 10 + number, 5, 30]
    report = drift(trace_of(turns))
    assert report.counts == {"new_root": 1, "template_drift": 3}
    assert [alarm.turn for alarm in report.alarms] == ["x1"]
    assert {pair.also for pair in report.pairs} == {None}


def test_what_did_not_come_back_and_what_was_delivered_is_counted() -> None:
    report = of([*PROMPT, 10, 99, 6], attended=False)
    assert report.sampled == 7
    assert report.drifted == 4
    assert report.delivered == 5
    assert report.delivered_fraction == 5 / 7
    assert drift(trace_of([])).delivered_fraction is None


@pytest.mark.parametrize(
    ("first", "other", "gap"), [({"tokens": None}, {}, "no_tokens"), ({}, {"tokens": None}, "no_tokens")]
)
def test_a_turn_that_cannot_be_compared_says_why(
    first: dict[str, Any], other: dict[str, Any], gap: str
) -> None:
    one = Given(PROMPT, COMPLETION, ASKED, "hi", **first)
    report = drift(trace_of([one, Given([*PROMPT, 1], [20], ANSWERED, "done", **other)]))
    assert report.uncompared["x1"] == gap


def test_a_turn_without_the_ids_of_its_prompt_cannot_be_compared() -> None:
    assert of([]).uncompared == {"x1": "prompt_ids_missing"}
    lost = drift(trace_of([Given(PROMPT, [], ASKED, "hi"), Given([*PROMPT, 1], [2], ANSWERED, "done")]))
    assert lost.uncompared == {"x1": "ids_missing"}


def test_a_turn_whose_ids_were_redacted_cannot_be_compared_and_is_no_step_to_train_on() -> None:
    without_prompt = msgspec.structs.replace(tokens([], [20]), gaps=("prompt_redacted",))
    without_answer = Tokens(prompt=tokens(PROMPT, []).prompt, gaps=("redacted",))
    assert of([], tokens=without_prompt).uncompared == {"x1": "prompt_redacted"}
    trace = trace_of(
        [Given(PROMPT, [], ASKED, "hi", tokens=without_answer), Given([*PROMPT, 1], [2], ANSWERED, "done")]
    )
    assert drift(trace).uncompared == {"x1": "redacted"}
    assert [step.gaps for step in steps(trace)] == [("redacted",), ()]
    assert [branch.token_ids.tolist() for branch in branches(trace)] == [[*PROMPT, 1, 2]]


IDS = st.lists(st.integers(0, 300), max_size=20)


@given(IDS, IDS, IDS)
def test_as_many_ids_are_common_as_a_plain_loop_finds(
    head: list[int], one: list[int], other: list[int]
) -> None:
    one, other = head + one, head + other
    plain = next(
        (at for at, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other))
    )
    assert common_ids(packed_ids(one), packed_ids(other)) == plain


@given(IDS, st.integers(0, 5), IDS)
def test_of_an_answer_as_much_is_found_as_a_plain_loop_finds(
    prompt: list[int], kept: int, answer: list[int]
) -> None:
    def at(place: int) -> int:
        return common_ids(packed_ids(prompt[place:]), packed_ids(answer))

    plain = max((at(place) for place in range(kept, len(prompt))), default=0)
    assert answer_kept(packed_ids(prompt), kept, packed_ids(answer)) == plain
