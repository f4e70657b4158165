"""Sources of a scripted model's replies: a source is a rule, several plain replies, or fixtures.

A source returns replies to some requests, and counts its unused replies. A source that has no reply for a request can
return the reasons.

Rules:

1. For a request, a source returns a reply or None. If it returns None, the next source of the script is tried.
2. If the agent disconnects before a chosen reply was sent, the reply is put back into its source. But if another reply
   of the source was chosen before this, the first reply counts as used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..._canonical.request import Request
from ..._util.figures import counted
from .replies import Reply, is_pause
from .rules import Rule
from .words import shown

MOST_RULES = 3
"""Maximum number of rules in an error text. The rules with the fewest unmet conditions are listed first."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A reply that a source has chosen for a request, before the reply is sent."""

    reply: Reply
    pause: float
    """Seconds to wait before the reply."""
    place: str
    """Place of the reply in the script, as errors name it: `replies[2]`, for example."""
    number: int
    """Index of the reply in its source."""


@dataclass(frozen=True, kw_only=True)
class Miss:
    """The reasons why one source has no reply for a request."""

    source: str
    """Description of the source in an error text."""
    why: tuple[str, ...]
    """Descriptions of the conditions that the request does not meet."""
    is_rule: bool = True
    """True if the source is a rule or fixtures, which have conditions on requests."""


class Source(Protocol):
    """A part of a script that gives replies: a rule, several plain replies, or fixtures."""

    @property
    def remaining(self) -> int:
        """Number of replies that were not used yet. Replies that are set to repeat are not counted."""

    @property
    def endless(self) -> int:
        """Number of replies or fixtures in the source that can answer any number of requests."""

    def take(self, request: Request) -> Taken | None: ...

    def give_back(self, taken: Taken) -> None: ...

    def unused(self) -> list[str]:
        """Return descriptions of the replies that were not used yet, without replies that are set to repeat."""

    def misses(self, request: Request) -> list[Miss]:
        """Return the reasons why the source has no reply for `request`."""


class Replies:
    """A source with the replies of one rule, or with consecutive plain replies of the script."""

    def __init__(self, rule: Rule, *, place: str, first: int | None = None) -> None:
        """Create a source.

        `first` is the index, in the script, of the first of these replies; None if the replies belong to a rule.
        """
        self._rule = rule
        self._place = place
        self._first = first
        self._next = 0

    @property
    def remaining(self) -> int:
        return 0 if self._rule.endless else len(self._left())

    @property
    def endless(self) -> int:
        return int(self._rule.endless)

    def take(self, request: Request) -> Taken | None:
        if (taken := self._peek()) is None or not self._rule.conditions.holds(request):
            return None
        self._next = taken.number + 1
        return taken

    def give_back(self, taken: Taken) -> None:
        if self._next == taken.number + 1:
            self._next = taken.number

    def unused(self) -> list[str]:
        if self._rule.endless:
            return []
        return [f"{self._called(number)}: {shown(self._rule.replies[number])}" for number in self._left()]

    def misses(self, request: Request) -> list[Miss]:
        why = tuple(self._rule.conditions.failures(request))
        if self._peek() is None:
            said = sum(not is_pause(reply) for reply in self._rule.replies)
            why = (*why, f"its {said} {'reply is' if said == 1 else 'replies are'} used up")
        return [Miss(source=self._place, why=why, is_rule=bool(self._rule.conditions))]

    def _peek(self) -> Taken | None:
        """Return the next reply, but do not mark it as used. Return None if all replies are used up."""
        replies = self._rule.replies
        start = self._next % len(replies) if self._rule.endless else self._next
        pause = 0.0
        for number in range(start, len(replies)):
            reply = replies[number]
            if not is_pause(reply):
                return Taken(reply=reply, pause=pause, place=self._called(number), number=number)
            pause += reply
        return None

    def _left(self) -> list[int]:
        replies = self._rule.replies
        return [number for number in range(self._next, len(replies)) if not is_pause(replies[number])]

    def _called(self, number: int) -> str:
        """Return the place of a reply in the script, as errors name it: `replies[2]`, for example."""
        return f"{self._place}, reply {number}" if self._first is None else f"replies[{self._first + number}]"


def described_miss(request: Request, misses: Sequence[Miss], call: int, total: int) -> str:
    """Return the error text for a request to which no source has a reply. `call` is the number of the call."""
    asked = described_request(request)
    if all(len(miss.why) == 1 and not miss.is_rule for miss in misses):
        replies = f"{total or 'no'} {'reply' if total < 2 else 'replies'}"
        return (
            f"call {call} came, but the script has {replies}: add a reply, or check why the application calls again; "
            f"the request was {asked}"
        )
    closest = sorted(misses, key=lambda miss: len(miss.why))
    lines = [f"  {miss.source}: {'; '.join(miss.why)}" for miss in closest[:MOST_RULES]]
    if (others := len(closest) - MOST_RULES) > 0:
        lines.append(f"  … and {others} more")
    return "\n".join(
        [
            "the script has no reply for this request; its closest entries are:",
            *lines,
            f"The request was {asked}",
        ]
    )


def described_request(request: Request) -> str:
    """Return a few lines of text that describe `request`, for an error."""
    count = counted(len(request.messages), "message", "messages")
    lines = [f"{request.dialect}, model {request.model!r}, {count}; the last messages:"]
    for message in request.messages[-3:]:
        said = message.text or ", ".join(
            [f"calls {call.name}({call.arguments})" for call in message.tool_calls]
            + [f"result {result.text!r}" for result in message.tool_results]
        )
        lines.append(f"  {message.role}: {' '.join(said[:400].split())}")
    return "\n".join(lines)
