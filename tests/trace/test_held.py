"""Calls that wait for the end of their answer: what agents must not see before it."""

from typing import Any

import pytest
from hypothesis import given

from tests.dialects import strategies
from triocept import Response, Text, ToolCall
from triocept._canonical.events import HeldCalls
from triocept.types import (
    Event,
    Opaque,
    PartDelta,
    PartEnd,
    PartStart,
    ResponseEnd,
    ResponseStart,
    assemble,
    events_of,
)

CALL = [
    PartStart(0, ToolCall("bash", "")),
    PartDelta(0, '{"command":'),
    PartDelta(0, '"ls"}'),
    PartDelta(0, " "),
    PartEnd(0),
]


def passed(held: HeldCalls, *events: Event) -> list[Event]:
    return [event for event in events if not held.hold(event)]


def test_of_a_call_nothing_goes_on_not_even_its_beginning() -> None:
    assert passed(HeldCalls(), ResponseStart(), *CALL) == [ResponseStart()]


def test_text_goes_on_before_a_call_and_waits_behind_it() -> None:
    before = [PartStart(1, Text("")), PartDelta(1, "so"), PartEnd(1)]
    behind = [PartStart(2, Text("")), PartDelta(2, "then"), PartEnd(2)]
    held = HeldCalls()
    assert passed(held, *before, *CALL, *behind) == before
    assert held.release()[-3:] == tuple(behind)


def test_what_waited_comes_in_order_and_the_pieces_of_a_text_as_one() -> None:
    held = HeldCalls()
    passed(held, *CALL)
    assert held.any
    assert held.release() == (CALL[0], PartDelta(0, '{"command":"ls"} '), PartEnd(0))
    assert not held.any


@pytest.mark.parametrize(
    ("kind", "waits"), [("local_shell_call", True), ("web_search_call", False), ([], False), (None, False)]
)
def test_an_opaque_call_waits_if_it_is_the_agent_that_runs_it(kind: Any, waits: bool) -> None:
    event = PartStart(0, Opaque("openai_responses", {"type": kind}))
    assert HeldCalls().hold(event) is waits


@given(strategies.any_response("openai_chat"))
def test_nothing_is_lost(response: Response) -> None:
    held, events = HeldCalls(), list(events_of(response))
    *content, end = events
    assert isinstance(end, ResponseEnd)
    assert assemble([*passed(held, *content), *held.release(), end]) == assemble(events)
