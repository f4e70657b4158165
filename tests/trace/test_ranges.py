"""What is made of the messages of a call that was read from a file costs what is new in its conversation."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triocept._trace.lines import Ranges
from triocept._trace.proof import RangedConversation, RecentRanges

NUMBERS = st.integers(-1, 12)
RANGES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5)
PRESENT = range(10)


def head_of(before: list[str], number: int) -> str:
    """A message and all before it, as text."""
    if number not in PRESENT:
        raise KeyError(number)
    return f"{before[-1] if before else ''},{number}"


def expected(ranges: Ranges) -> list[str] | None:
    """What comes of these ranges by themselves; None where a message is missing."""
    values: list[str] = []
    for start, stop in ranges:
        for number in range(start, stop):
            if number not in PRESENT:
                return None
            values.append(head_of(values, number))
    return values


@given(st.lists(RANGES, max_size=12))
def test_the_values_are_those_of_the_conversation_alone_whatever_came_before(calls: list[Ranges]) -> None:
    recent = RecentRanges(head_of)
    given_before: list[tuple[RangedConversation[str], list[str]]] = []
    for ranges in calls:
        wanted = expected(ranges)
        if wanted is None:
            with pytest.raises(KeyError):
                recent.go_on(ranges)
        else:
            found = recent.go_on(ranges)
            assert found.values == wanted
            given_before.append((found, wanted))
    assert all(found.head(len(wanted)) == tuple(wanted) for found, wanted in given_before)


@pytest.mark.parametrize("conversations", [1, 8])
def test_no_message_is_looked_at_again_because_an_agent_sends_it_again(conversations: int) -> None:
    """So many conversations take turns, of one system prompt; each call has a message more than its last one."""
    made: Counter[int] = Counter()

    def make(before: list[int], number: int) -> int:
        made[number] += 1
        return number

    recent, ranges = RecentRanges(make), [[(0, 1)] for _ in range(conversations)]
    for number in range(1, 1000):
        told = ranges[number % conversations]
        start, stop = told[-1]
        told[-1:] = [(start, number + 1)] if stop == number else [(start, stop), (number, number + 1)]
        assert recent.go_on([*told]).values[-1] == number
    assert made.total() < 1100, "a few more while conversations are short"


def test_an_agent_that_writes_its_last_messages_anew_costs_these() -> None:
    made: list[int] = []

    def make(before: list[int], number: int) -> int:
        made.append(number)
        return number

    recent = RecentRanges(make)
    for number in range(0, 2000, 2):
        assert recent.go_on([(0, number + 1), (number + 2, number + 3)]).values[-1] == number + 2
    assert len(made) < 5 * 1000


def test_what_is_missing_is_found_at_once_the_second_time() -> None:
    looked: list[int] = []

    def make(before: list[int], number: int) -> int:
        looked.append(number)
        return {each: each for each in range(1000)}[number]

    recent = RecentRanges(make)
    for _ in range(100):
        with pytest.raises(KeyError):
            recent.go_on([(0, 10**12)])
    assert len(looked) == 1100
