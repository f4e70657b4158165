"""What has to have happened before a recorded answer is given, for agents whose sub-agents run beside.

The end of a sub-agent that runs beside is pushed into the conversation that launched it, into whichever call comes
next: what that call says depends on who was first. Content alone cannot replay it; these rules can (of Claude Code with
two sub-agents and a compaction, 4 of 10 runs failed without them):

1. A turn of the conversation that launched sub-agents is answered only when those of their turns have been that had
   settled before this conversation's next call came. "Next" is by conversation: a compaction's call continues no turn.
2. The last turn of a sub-agent is answered only when the calls of that conversation have come that had come before;
   and after the last turns of other sub-agents that were before it.
3. Where a call came within a moment of a sub-agent's end, what that call says tells which was first.
4. Nothing else waits, and nothing waits for what can only come later: what would close a circle is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from .launches import launch_of, told_in
from .record import Record, Recorded, Thread

__all__ = ["Happening", "Order"]


RACE = 0.1
"""Seconds: an agent takes less from a sub-agent's end to a call that tells of it."""


class Happening(NamedTuple):
    """A call came, or its turn settled."""

    number: int
    """That of the turn."""
    settled: bool


class _SubAgent(NamedTuple):
    turns: Sequence[Recorded]
    family: Sequence[Recorded]
    """The turns of the conversation that launched it; both in the order in which they came."""

    @property
    def last(self) -> Recorded:
        return self.turns[-1]

    @property
    def heard_by(self) -> Recorded | None:
        """The last call of that conversation that had come before its end."""
        before = sum(each.arrived < self.last.settled for each in self.family)
        told = told_in(self.turns, self.family)
        if told and self.family[told - 1].arrived < self.last.settled + RACE:
            before = max(before, told)
        return self.family[before - 1] if before else None


class Order:
    """The order of a record.

    Args:
        record: it.
    """

    def __init__(self, record: Record) -> None:
        self.launches: dict[Thread, Recorded] = {}
        """By a sub-agent's conversation: the turn that began it."""
        self._waits: dict[int, list[Happening]] = {}
        self._after: dict[Happening, set[Happening]] = {}
        """For each happening, those without which it cannot be."""
        threads = record.threads
        for thread, turns in threads.items():
            if turns[0].kind == "sub_agent" and (launch := launch_of(turns[0], record.turns)) is not None:
                self.launches[thread] = launch
        if self.launches:
            self._find_causes(threads)
            self._find_waits([self._sub_agent(threads, thread) for thread in self.launches])

    def before(self, number: int) -> tuple[Happening, ...]:
        """What has to have happened before the answer of this turn is given."""
        return tuple(self._waits.get(number, ()))

    def _sub_agent(self, threads: Mapping[Thread, Sequence[Recorded]], thread: Thread) -> _SubAgent:
        return _SubAgent(threads[thread], threads[self.launches[thread].thread])

    def _find_causes(self, threads: Mapping[Thread, Sequence[Recorded]]) -> None:
        """What follows from what by itself: an answer from its call, a call from the answer before it."""
        for thread, turns in threads.items():
            launch = self.launches.get(thread)
            before = {Happening(launch.number, settled=True)} if launch is not None else set()
            for each in turns:
                came, settled = Happening(each.number, settled=False), Happening(each.number, settled=True)
                self._after[came], self._after[settled] = before, {came}
                before = {settled}

    def _find_waits(self, sub_agents: list[_SubAgent]) -> None:
        ended = sorted(sub_agents, key=lambda sub: sub.last.settled)
        for sub in ended:
            if (heard := sub.heard_by) is not None:
                self._wait(heard, Happening(sub.last.number, settled=True))
                self._wait(sub.last, Happening(heard.number, settled=False))
        for first, second in pairwise(ended):
            self._wait(second.last, Happening(first.last.number, settled=True))
        for sub in ended:
            for turn, been in _paces(sub):
                self._wait(turn, Happening(been.number, settled=True))

    def _wait(self, turn: Recorded, happening: Happening) -> None:
        """Let a turn wait for this, unless this waits for the turn."""
        mine = Happening(turn.number, settled=True)
        if happening not in self._after[mine] and not self._follows(happening, mine):
            self._after[mine].add(happening)
            self._waits.setdefault(turn.number, []).append(happening)

    def _follows(self, one: Happening, other: Happening) -> bool:
        """Whether the one cannot be before the other."""
        seen, ahead = {one}, [one]
        while ahead:
            at = ahead.pop()
            if at == other:
                return True
            new = self._after.get(at, set()) - seen
            seen |= new
            ahead += new
        return False


def _paces(sub: _SubAgent) -> Iterator[tuple[Recorded, Recorded]]:
    """Turns of the conversation, each with the last turn of a sub-agent that had settled before the next call came."""
    turns, latest = sub.turns[:-1], -1
    for number, turn in enumerate(sub.family):
        behind = sub.family[number + 1].arrived if number + 1 < len(sub.family) else turn.settled
        been = [each for each in turns if each.settled < behind and sub.turns[0].arrived < turn.settled]
        if been and been[-1].number > latest:
            latest = been[-1].number
            yield turn, been[-1]
