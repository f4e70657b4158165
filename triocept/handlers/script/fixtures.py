"""aimock's fixtures as part of a script: matched and chosen as in aimock 1.43.0.

Rules:

1. All conditions of a fixture must hold; the first matching fixture answers, any number of times.
2. `turnIndex` excludes nothing: it chooses among the matching fixtures. The highest `turnIndex` up to the number of
   answers so far wins; else the first fixture without a `turnIndex`; else the lowest. A fixture without a `turnIndex`
   wins if it stands before a fixture whose `turnIndex` is exactly that number.
3. `sequenceIndex` counts how often fixtures with equal conditions were served.
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
    """A part of a script's file that may not do what its author meant."""


class VectorsLeft(ScriptWarning):
    """Fixtures of embeddings, in a file that was read for its conversations."""


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """A fixture: conditions on a request, and the reply to it."""

    match: MatchForm
    reply: Reply
    place: str
    """File and line of the fixture."""


@final
@dataclass(frozen=True)
class Fixtures:
    """Fixtures of aimock, made by `read_script`; `ScriptedModel` takes them as part of a script."""

    _all: tuple[Fixture, ...]

    def __len__(self) -> int:
        return len(self._all)


def source_of(fixtures: Fixtures) -> FixtureSource:
    """Return a new source of these fixtures' replies; each model has its own source."""
    return FixtureSource(fixtures._all)


class FixtureSource:
    """A source of fixtures, with a count of replies per set of conditions. Unused fixtures are no fault."""

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
        """Return the fixture that rule 2 chooses."""
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
    """Return a key that fixtures of one sequence share; any other fixture has a key of its own."""
    if not isinstance(fixture.match.sequenceIndex, int):
        return fixture.place
    match = fixture.match
    return repr({name: getattr(match, name) for name in match.__struct_fields__ if name != "sequenceIndex"})
