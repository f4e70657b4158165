"""Steps: what is trained on, and the name of what speaks against it."""

from typing import Any

import pytest

from tests.trace.tokenized import Given, said, tokens, trace_of
from triocept.fleets import Outcome, Result
from triocept.traces import branches, drift, steps


def test_an_answer_that_the_agent_waited_for_is_trained_on() -> None:
    (step,) = steps(trace_of([Given([1, 2], [3, 4], said("hello"), "hi")]))
    assert (step.gaps, step.unknown, step.delivered, step.trained) == ((), (), True, True)
    assert step.prompt_ids.tolist() == [1, 2]
    assert step.completion_ids.tolist() == [3, 4]
    assert step.logprobs.tolist() == [-3 / 64, -4 / 64]
    assert step.mask == b"\1\1"
    assert (step.temperature, step.policy_version, step.stop_included) == (1.0, "step-1", True)
    assert step.parent is step.superseded_by is None


@pytest.mark.parametrize("view", [steps, branches, drift])
def test_several_traces_instead_of_one_are_an_error_with_the_loop(view: Any) -> None:
    trace = trace_of([Given([1, 2], [3, 4], said("hello"), "hi")])
    result: Result[int, int] = Result(
        task=1, number=0, attempt=1, worker="", outcome=Outcome.Value(value=1), traces=(trace,)
    )
    name = view.__name__
    with pytest.raises(
        TypeError,
        match=rf"^{name} takes one Trace, not a Result: write `for trace in result.traces: {name}\(trace\)`$",
    ):
        view(result)
    with pytest.raises(TypeError, match=rf"not a tuple: write `for trace in traces: {name}\(trace\)`"):
        view(result.traces)
    with pytest.raises(TypeError, match=rf"^{name} takes one Trace, not str: 'x'$"):
        view("x")


@pytest.mark.parametrize(("fields", "gap"), [
    ({"outcome": "failed"}, "not_answered"),
    ({"outcome": "refused"}, "not_answered"),
    ({"outcome": "abandoned", "attended": False}, "client_disconnected_before_end"),
    ({"attended": False}, "client_disconnected_before_end"),
    ({"rewritten": True}, "rewritten_response"),
    ({"tokens": tokens([1], [2], gaps=("upstream_truncated",))}, "upstream_truncated"),
])  # fmt: skip
def test_what_speaks_against_it_has_a_name_and_can_be_accepted(fields: dict[str, Any], gap: str) -> None:
    trace = trace_of([Given([1], [2], said("hello"), "hi", **fields)])
    (step,) = steps(trace)
    assert step.gaps == (gap,)
    assert (step.trained, step.mask) == (False, b"\0")
    (taken,) = steps(trace, accept=[gap])
    assert (taken.gaps, taken.trained, taken.mask) == ((), True, b"\1")


@pytest.mark.parametrize("gap", ["ids_count", "logprob_sentinel", "multi_choice", "token_id_mismatch"])
def test_what_was_found_when_the_tokens_came_is_told_as_it_was(gap: str) -> None:
    (step,) = steps(trace_of([Given([1], [2], tokens=tokens([1], [2], gaps=(gap,)))]))
    assert step.gaps == (gap,)


def test_what_the_agent_goes_on_from_it_got_though_nobody_waited_when_it_was_done() -> None:
    """With `on_hangup="finish"`: its retry got the answer that was kept."""
    kept = Given([1], [2], said("hello"), "hi", attended=False)
    after = Given([1, 2, 3], [4], said("hello", "assistant: hi", "go on"), "done")
    first, second = steps(trace_of([kept, after]))
    assert (first.delivered, first.gaps) == (True, ())
    assert second.parent == "x0"


def test_an_answer_that_nobody_got_is_superseded_by_the_next_to_the_same_question() -> None:
    lost = Given([1], [2], said("hello"), "hi", attended=False)
    other = Given([9], [2], said("something else"), "hi")
    again = Given([1], [3], said("hello"), "ho")
    first, _, third = steps(trace_of([lost, other, again]))
    assert (first.superseded_by, first.gaps, first.delivered) == ("x2", ("superseded",), False)
    assert (third.superseded_by, third.gaps) == (None, ())


def test_a_call_that_failed_is_superseded_and_not_answered() -> None:
    lost = Given([1], [2], said("hello"), "h", outcome="refused")
    first, second = steps(trace_of([lost, Given([1], [3], said("hello"), "ho")]))
    assert (first.superseded_by, first.gaps) == ("x1", ("not_answered",))
    assert second.gaps == ()


def test_an_agent_that_samples_gets_all_its_answers() -> None:
    first, second = steps(
        trace_of([Given([1], [2], said("hello"), "hi"), Given([1], [3], said("hello"), "ho")])
    )
    assert first.gaps == second.gaps == ()
    assert first.superseded_by is None


def test_what_nobody_said_is_told_beside_and_is_no_gap() -> None:
    bare = tokens([1], [2], policy_version=None, temperature=None, stop_included=None)
    (step,) = steps(trace_of([Given([1], [2], tokens=bare)]))
    assert step.unknown == ("policy_version_unknown", "temperature_unknown", "stop_unknown")
    assert step.trained


def test_of_two_turns_that_hold_the_same_tokens_the_one_is_extended_that_the_messages_continue() -> None:
    one = Given([1], [2, 3], said("hello"), "hi")
    other = Given([1, 2], [3], said("hey"), "ho")
    after = Given([1, 2, 3, 4], [5], said("hey", "assistant: ho", "go on"), "done")
    assert steps(trace_of([one, other, after]))[2].parent == "x1"


def test_where_the_messages_do_not_say_which_the_first_is_extended_and_that_is_said() -> None:
    one, other = Given([1], [2, 3], said("hello"), "hi"), Given([1, 2], [3], said("hey"), "ho")
    after = steps(trace_of([one, other, Given([1, 2, 3, 4], [5], said("new"), "done")]))[2]
    assert after.parent == "x0"
    assert after.unknown == ("ambiguous_parent",)
    assert after.trained
