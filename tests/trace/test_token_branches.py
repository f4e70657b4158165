"""Flat branches of token ids: each sampled token is trained on exactly once, whatever the calls look like."""

import math
import random
from array import array
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace.tokenized import Given, made, said, tokens, trace_of
from triocept import Trace, Turn
from triocept.traces import TokenBranch, Tokens, branches, steps

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=6)
"""Few different ones, so that prompts begin with what other calls hold by chance, too."""


@st.composite
def forests(draw: st.DrawFn) -> list[Turn]:
    """Turns that begin anew, or go on from what an earlier one holds, or from a part of it."""
    turns: list[Turn] = []
    held: list[list[int]] = []
    for number in range(draw(st.integers(1, 12))):
        begin: list[int] = []
        if held and draw(st.integers(0, 4)):
            begin = draw(st.sampled_from(held))
            if not draw(st.integers(0, 4)):
                begin = begin[: draw(st.integers(0, len(begin)))]
        prompt, completion = [*begin, *draw(IDS)], draw(IDS)
        turns.append(made(number, Given(prompt, completion, said(f"{number}"), f"{number}")))
        held.append(prompt + completion)
    return turns


def trained(flat: tuple[TokenBranch, ...]) -> Counter[tuple[str, int, int, float]]:
    """What is trained on: whose token, its place in the completion, its id and its log probability."""
    found: Counter[tuple[str, int, int, float]] = Counter()
    for branch in flat:
        ids, logprobs = branch.token_ids, branch.logprobs
        assert len(ids) == len(branch.mask) == len(logprobs)
        for span in branch.spans:
            for at in range(span.start, span.stop):
                assert branch.mask[at] == span.trained
                if span.trained:
                    found[span.step.turn.id, at - span.start, ids[at], logprobs[at]] += 1
        inside = {at for span in branch.spans for at in range(span.start, span.stop)}
        assert not any(branch.mask[at] for at in range(len(ids)) if at not in inside)
    return found


def sampled(turns: list[Turn]) -> Counter[tuple[str, int, int, float]]:
    found: Counter[tuple[str, int, int, float]] = Counter()
    for turn in turns:
        for at, (each, logprob) in enumerate(
            zip(turn.tokens.completion_ids, turn.tokens.logprobs, strict=True)
        ):
            found[turn.id, at, each, logprob] += 1
    return found


@pytest.mark.once
@given(forests(), st.randoms())
@settings(max_examples=300, deadline=None)
def test_each_sampled_token_is_trained_on_exactly_once_in_whatever_order_the_turns_stand(
    turns: list[Turn], shuffler: random.Random
) -> None:
    flat = branches(trace_of(turns))
    assert trained(flat) == sampled(turns)
    shuffled = list(turns)
    shuffler.shuffle(shuffled)
    again = branches(trace_of(shuffled))
    assert [(b.ids, b.mask, b.probabilities) for b in again] == [
        (b.ids, b.mask, b.probabilities) for b in flat
    ]


@given(forests())
@settings(max_examples=100, deadline=None)
def test_a_turn_extends_the_one_that_holds_the_longest_beginning_of_its_prompt(turns: list[Turn]) -> None:
    """Against the plain definition."""
    held = {turn.id: turn.tokens.prompt + turn.tokens.completion for turn in turns if turn.tokens}
    for step in steps(trace_of(turns)):
        prompt = step.tokens.prompt
        longest = max((len(held[each]) for each in held if prompt.startswith(held[each])), default=0)
        assert (0 if step.parent is None else len(held[step.parent])) == longest
        assert step.parent is None or prompt.startswith(held[step.parent])


def test_calls_in_a_row_are_one_sequence() -> None:
    first = Given([1, 2], [3, 4])
    second = Given([1, 2, 3, 4, 5], [6])
    (branch,) = branches(trace_of([first, second]))
    assert branch.token_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert branch.mask == bytes([0, 0, 1, 1, 0, 1])
    assert branch.logprobs == array("f", [0, 0, -3 / 64, -4 / 64, 0, -6 / 64])
    assert [(span.step.turn.id, span.start, span.stop) for span in branch.spans] == [
        ("x0", 2, 4),
        ("x1", 5, 6),
    ]


def test_what_two_branches_share_is_trained_on_in_the_first() -> None:
    shared = Given([1], [2, 3])
    one, other = Given([1, 2, 3, 4], [5]), Given([1, 2, 3, 6], [7])
    first, second = branches(trace_of([shared, one, other]))
    assert first.mask == bytes([0, 1, 1, 0, 1])
    assert second.mask == bytes([0, 0, 0, 0, 1])
    assert first.logprobs[1:3] == second.logprobs[1:3]
    assert [span.trained for span in second.spans] == [False, True]


def test_a_prompt_with_other_ids_begins_a_branch_of_its_own() -> None:
    flat = branches(trace_of([Given([1], [2, 3]), Given([1, 2, 9, 4], [5])]))
    assert [branch.token_ids.tolist() for branch in flat] == [[1, 2, 3], [1, 2, 9, 4, 5]]


def test_a_prompt_that_ends_as_another_call_does_and_begins_otherwise_begins_a_branch_of_its_own() -> None:
    """Long enough for the eight ids by which a call is found."""
    end = list(range(100, 110))
    first, other = Given([1, *end], [*end, 2]), Given([3, *end, *end, 2, 4], [5])
    assert [step.parent for step in steps(trace_of([first, other]))] == [None, None]
    assert len(branches(trace_of([first, other]))) == 2


def test_a_call_with_a_gap_is_context_and_is_not_trained_on() -> None:
    broken = Given([1], [2, 3], tokens=tokens([1], [2, 3], gaps=("logprob_sentinel",)))
    (branch,) = branches(trace_of([broken, Given([1, 2, 3, 4], [5])]))
    assert branch.mask == bytes([0, 0, 0, 0, 1])
    assert branch.logprobs.tolist()[:4] == [0, 0, 0, 0]


def test_a_call_with_a_gap_that_nothing_goes_on_from_is_in_no_branch() -> None:
    shared, broken = Given([1], [2]), Given([1, 2, 3], [4], tokens=None)
    (branch,) = branches(trace_of([shared, broken]))
    assert branch.token_ids.tolist() == [1, 2]


def test_log_probabilities_that_do_not_fit_their_ids_are_left_out() -> None:
    off = msgspec.structs.replace(tokens([1], [2, 3]), probabilities=b"\0\0\0\1", gaps=("logprob_count",))
    (branch,) = branches(trace_of([Given([1], [2, 3], tokens=off), Given([1, 2, 3, 4], [5])]))
    assert branch.logprobs.tolist()[:3] == [0, 0, 0]


def test_a_trace_without_tokens_has_steps_that_say_so_and_no_branches() -> None:
    trace = trace_of([Given([], [], tokens=None)])
    (step,) = steps(trace)
    assert step.gaps == ("no_tokens",)
    assert step.tokens == Tokens()
    assert (step.mask, step.trained) == (b"", False)
    assert branches(trace) == ()
    assert branches(Trace("empty")) == steps(Trace("empty")) == ()


def test_a_thousand_calls_in_a_row_are_one_branch_and_as_many_that_begin_alike_are_so_many() -> None:
    held: list[int] = []
    chain = []
    for number in range(1000):
        prompt = [*held, number]
        chain.append(Given(prompt, [number + 1]))
        held = [*prompt, number + 1]
    flat = branches(trace_of(chain))
    assert len(flat) == 1
    assert sum(flat[0].mask) == 1000
    side = [Given([*range(2000), number], [number]) for number in range(1000)]
    assert len(branches(trace_of(side))) == 1000


def test_only_gaps_that_leave_the_tokens_whole_can_be_accepted() -> None:
    with pytest.raises(ValueError, match="not 'logprob_count'"):
        steps(Trace("r"), accept=["logprob_count"])
    with pytest.raises(TypeError, match="a list of names"):
        steps(Trace("r"), accept="superseded")


def test_a_branch_has_the_temperature_of_each_token() -> None:
    """Several in one rollout: whoever serves the model may have changed it between two calls."""
    turns = [
        made(0, Given([1, 2], [3, 4], tokens=tokens([1, 2], [3, 4], temperature=0.5))),
        made(1, Given([1, 2, 3, 4, 5], [6], tokens=tokens([1, 2, 3, 4, 5], [6], temperature=0.0))),
        made(2, Given([1, 2, 3, 4, 5, 6], [7], tokens=tokens([1, 2, 3, 4, 5, 6], [7], temperature=None))),
    ]
    (branch,) = branches(trace_of(turns))
    assert branch.temperatures[:-1].tolist() == [1.0, 1.0, 0.5, 0.5, 1.0, 0.0]
    assert math.isnan(branch.temperatures[-1])
    assert len(branch.temperatures) == len(branch.token_ids)
