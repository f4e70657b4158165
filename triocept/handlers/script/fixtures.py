"""aimock's fixtures as a part of a script: they match, and are chosen, as aimock 1.43.0 does that.

Rules:

1. All that a fixture demands must hold; among those that match the first one answers, each time anew.
2. `turnIndex` forbids nothing: it chooses among those that match. The highest one that is not above the number of
   answers so far; else the first without one; else the lowest. One without a number that stands before one whose number
   is just right comes first.
3. `sequenceIndex` counts what was served by the fixtures of the same demands.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from msgspec import UNSET

from ..._canonical.request import Request
from .fixture_forms import MatchForm
from .fixture_match import failures
from .replies import Reply
from .source import Miss, Taken


class ScriptWarning(UserWarning):
    """Something in a script's file that may not be what was meant."""


class VectorsLeft(ScriptWarning):
    """Fixtures of embeddings, in a file that was read for its conversations."""


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """One fixture: what must hold of a request, and what it then gets."""

    match: MatchForm
    reply: Reply
    place: str
    """The file and the line."""


@final
@dataclass(frozen=True)
class Fixtures:
    """Made by `read_script`: fixtures of aimock's, which `ScriptedModel` takes as a part of a script."""

    _all: tuple[Fixture, ...]

    def __len__(self) -> int:
        return len(self._all)


def source_of(fixtures: Fixtures) -> FixtureSource:
    """Where a model takes their replies from: each model has one of its own."""
    return FixtureSource(fixtures._all)


class FixtureSource:
    """Fixtures, and how often each demand was served. Nothing of it has to be used."""

    remaining: int = 0

    def __init__(self, fixtures: Sequence[Fixture]) -> None:
        self._fixtures = tuple(fixtures)
        self._served = dict.fromkeys(map(_demand, self._fixtures), 0)
        self._warned: set[int] = set()

    @property
    def endless(self) -> int:
        return len(self._fixtures)

    def take(self, request: Request) -> Taken | None:
        matching = [
            number
            for number, fixture in enumerate(self._fixtures)
            if self._is_due(fixture) and next(failures(fixture.match, request), None) is None
        ]
        if not matching:
            return None
        answers = sum(message.role == "assistant" for message in request.messages)
        number = self._chosen(matching, answers)
        fixture = self._fixtures[number]
        if number not in self._warned and fixture.match.turnIndex not in (answers, UNSET):
            self._warn(number, answers)
        self._served[_demand(fixture)] += 1
        return Taken(reply=fixture.reply, pause=0.0, place=fixture.place, number=number)

    def give_back(self, taken: Taken) -> None:
        self._served[_demand(self._fixtures[taken.number])] -= 1

    def unused(self) -> list[str]:
        return []

    def misses(self, request: Request) -> list[Miss]:
        return [Miss(source=each.place, why=tuple(self._why(each, request))) for each in self._fixtures]

    def _why(self, fixture: Fixture, request: Request) -> Iterator[str]:
        yield from failures(fixture.match, request)
        if not self._is_due(fixture):
            yield f"sequenceIndex is {fixture.match.sequenceIndex}, and {self._served[_demand(fixture)]} were served"

    def _is_due(self, fixture: Fixture) -> bool:
        index = fixture.match.sequenceIndex
        return not isinstance(index, int) or index == self._served[_demand(fixture)]

    def _chosen(self, matching: list[int], answers: int) -> int:
        """See rule 2."""
        turns = {number: self._fixtures[number].match.turnIndex for number in matching}
        numbered = {number: turn for number, turn in turns.items() if isinstance(turn, int)}
        plain = next((number for number in matching if number not in numbered), None)
        reached = [number for number, turn in numbered.items() if turn <= answers]
        if reached:
            best = max(reached, key=lambda number: (numbered[number], -number))
            exact = numbered[best] == answers
            return plain if exact and plain is not None and plain < best else best
        return plain if plain is not None else min(numbered, key=lambda number: (numbered[number], number))

    def _warn(self, number: int, answers: int) -> None:
        self._warned.add(number)
        fixture = self._fixtures[number]
        warnings.warn(
            f"{fixture.place}: served after {answers} answers, though its turnIndex is {fixture.match.turnIndex}: "
            "that forbids nothing, it chooses among fixtures that match",
            ScriptWarning,
            stacklevel=2,
        )


def _demand(fixture: Fixture) -> str:
    """What fixtures of one sequence have in common; all others are by themselves."""
    if not isinstance(fixture.match.sequenceIndex, int):
        return fixture.place
    match = fixture.match
    return repr({name: getattr(match, name) for name in match.__struct_fields__ if name != "sequenceIndex"})
