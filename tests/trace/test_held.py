"""Calls that wait for the end of their answer: what agents must not see whole before it."""

from __future__ import annotations

from hypothesis import given

from tests.dialects import strategies
from triocept import (
    Event,
    PartDelta,
    PartEnd,
    PartStart,
    Response,
    ResponseEnd,
    ResponseStart,
    Text,
    ToolCall,
    assemble,
    events_of,
)
from triocept._canonical.held import HeldCalls


def passed(*events: Event) -> list[Event]:
    held = HeldCalls()
    return [each for event in events for each in held.take(event)]


CALL = [
    PartStart(0, ToolCall("bash", "")),
    PartDelta(0, '{"command":'),
    PartDelta(0, '"ls"}'),
    PartDelta(0, " "),
    PartEnd(0),
]


def test_a_call_is_not_whole_before_the_answer_is() -> None:
    assert passed(ResponseStart(), *CALL) == [ResponseStart(), CALL[0], CALL[1]]


def test_what_waits_comes_before_the_end() -> None:
    rest = passed(ResponseStart(), *CALL, ResponseEnd())[3:]
    assert rest == [PartDelta(0, '"ls"} '), PartEnd(0), ResponseEnd()]


def test_a_call_that_begins_with_all_of_its_arguments_waits_too() -> None:
    start = PartStart(0, ToolCall.of("bash", command="ls"))
    assert passed(start, PartEnd(0)) == [PartStart(0, ToolCall("bash", ""))]


def test_text_and_what_comes_behind_a_call_goes_on_at_once() -> None:
    text = [PartStart(1, Text("")), PartDelta(1, "so"), PartEnd(1)]
    assert passed(*CALL, *text)[-3:] == text


@given(strategies.any_response("openai_chat"))
def test_nothing_is_lost(response: Response) -> None:
    events = list(events_of(response))
    assert assemble(passed(*events)) == assemble(events)
