"""Fixtures of aimock as part of a script. For each request, the fixture is chosen that aimock 1.43.0 would choose.

Rules:

1. A fixture matches a request if all its conditions hold. The first matching fixture answers. A fixture may answer any
   number of times.
2. `turnIndex` is not a condition: it only chooses among the matching fixtures. Let n be the number of the model's
   answers so far. The fixture with the highest `turnIndex` that is at most n is chosen. But if this `turnIndex` is
   exactly n, and a fixture without a `turnIndex` stands before it, the fixture without a `turnIndex` is chosen. If no
   `turnIndex` is at most n, the first fixture without a `turnIndex` is chosen. If every fixture has a `turnIndex` above
   n, the fixture with the lowest `turnIndex` is chosen.
3. A fixture with a `sequenceIndex` of n answers only if the fixtures with the same conditions have already given n
   replies.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from msgspec import UNSET

from ..._canonical.content import ToolResult
from ..._canonical.request import Request, offered_names
from ..._util.figures import counted
from .fixture_forms import MatchForm
from .replies import Reply
from .source import Miss, Taken
from .words import shown, system_text

_PARTS_OF_TEXTS = ("userMessage", "systemMessage", "toolResultContains")
_CONDITIONS = (*_PARTS_OF_TEXTS, "toolCallId", "toolName", "model", "responseFormat", "hasToolResult")


class ScriptWarning(UserWarning):
    """Warning: a part of a script may not have the effect that its author intended.

    Usually this part stands in a script's file. Under pytest, there is also a warning for a reply that calls a tool
    which the request does not offer.
    """

    __module__ = "triocept.handlers"  # the public place, shown in tracebacks


class VectorsLeft(ScriptWarning):
    """Warning: a script's file also has fixtures for embeddings, which `read_script` does not use."""


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """A fixture of aimock: conditions on a request, and a reply."""

    match: MatchForm
    reply: Reply
    place: str
    """File and line of the fixture."""


@final
@dataclass(frozen=True)
class Fixtures:
    """Fixtures of aimock, read by `read_script`. `ScriptedModel` takes them as an item of a script."""

    _all: tuple[Fixture, ...]

    def __len__(self) -> int:
        return len(self._all)


def source_of(fixtures: Fixtures) -> FixtureSource:
    """Return a new source that gives the replies of `fixtures`. Each scripted model needs its own source."""
    return FixtureSource(fixtures._all)


def failures(match: MatchForm, request: Request) -> Iterator[str]:
    """Yield a description for each condition in `match` that `request` does not meet."""
    user, system, last = request.user_text, system_text(request), request.last
    newest = last.content[-1] if last is not None and last.content else None
    result = newest if isinstance(newest, ToolResult) else None
    for name in _CONDITIONS:
        if (wanted := getattr(match, name)) is UNSET:
            continue
        match name:
            case "userMessage":
                holds = wanted in user if wanted else bool(user)
            case "systemMessage" if isinstance(wanted, list):
                holds = not wanted or (bool(system) and all(part in system for part in wanted))
            case "systemMessage":
                holds = bool(system) and wanted in system
            case "toolCallId":
                holds = result is not None and result.id == wanted
            case "toolResultContains":
                holds = result is not None and wanted in result.text
            case "toolName":
                holds = wanted in offered_names(request)
            case "model":
                holds = bool(re.fullmatch(rf"{re.escape(wanted)}(-\d.*)?", request.model, re.DOTALL))
            case "responseFormat":
                asked = request.output_format.kind if request.output_format is not None else "text"
                holds = asked == wanted
            case _:
                holds = _has_result(request) == wanted
        if not holds:
            yield f"{name} {shown(wanted)} does not match"


def _has_result(request: Request) -> bool:
    """Return True if there is a tool result since the user's last message.

    A message that contains only tool results is not the user's last message: Anthropic puts results in user messages.
    """
    for message in reversed(request.messages):
        if message.role == "user" and not all(isinstance(part, ToolResult) for part in message.content):
            break
        if message.tool_results:
            return True
    return False


def hides(wide: MatchForm, narrow: MatchForm) -> bool:
    """Return True if the fixture `narrow` can certainly never answer a request because `wide` stands before it."""
    if isinstance(wide.sequenceIndex, int) or wide.turnIndex != narrow.turnIndex:
        return False
    for name in _CONDITIONS:
        one, other = getattr(wide, name), getattr(narrow, name)
        is_part = isinstance(one, str) and isinstance(other, str) and name in _PARTS_OF_TEXTS and one in other
        if not (one is UNSET or one == other or is_part):
            return False
    return True


class FixtureSource:
    """A source that gives the replies of fixtures, and counts the replies of fixtures with equal conditions.

    A fixture that was never used is not an error.
    """

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
            self._warned.add(number)
            warnings.warn(
                f"the fixture {fixture.place} was used after {answers} answers, although its turnIndex is "
                f"{fixture.match.turnIndex}: turnIndex only chooses among the fixtures that match a request",
                ScriptWarning,
                stacklevel=2,
            )
        self._served[_demand(fixture)] += 1
        return Taken(reply=fixture.reply, pause=0.0, place=fixture.place, number=number)

    def give_back(self, taken: Taken) -> None:
        self._served[_demand(self._fixtures[taken.number])] -= 1

    def unused(self) -> list[str]:
        return []

    def misses(self, request: Request) -> list[Miss]:
        found: list[Miss] = []
        for each in self._fixtures:
            why = [*failures(each.match, request)]
            if not self._is_due(each):
                count = self._served[_demand(each)]
                served = counted(count, "reply was", "replies were")
                why.append(
                    f"its sequenceIndex is {each.match.sequenceIndex}, but {served} sent before by the fixtures with "
                    "equal conditions"
                )
            found.append(Miss(source=each.place, why=tuple(why)))
        return found

    def _is_due(self, fixture: Fixture) -> bool:
        index = fixture.match.sequenceIndex
        return not isinstance(index, int) or index == self._served[_demand(fixture)]

    def _chosen(self, matching: list[int], answers: int) -> int:
        """Return the index of the fixture that answers.

        `matching` contains the indexes of the fixtures that match the request; rule 2 of this module selects one of
        them.
        """
        turns = {number: self._fixtures[number].match.turnIndex for number in matching}
        numbered = {number: turn for number, turn in turns.items() if isinstance(turn, int)}
        plain = next((number for number in matching if number not in numbered), None)
        reached = [number for number, turn in numbered.items() if turn <= answers]
        if reached:
            best = max(reached, key=lambda number: (numbered[number], -number))
            exact = numbered[best] == answers
            return plain if exact and plain is not None and plain < best else best
        return plain if plain is not None else min(numbered, key=lambda number: (numbered[number], number))


def _demand(fixture: Fixture) -> str:
    """Return the key by which the replies of `fixture` are counted.

    Fixtures that differ only in `sequenceIndex` have equal keys.
    """
    if not isinstance(fixture.match.sequenceIndex, int):
        return fixture.place
    match = fixture.match
    return repr({name: getattr(match, name) for name in match.__struct_fields__ if name != "sequenceIndex"})
