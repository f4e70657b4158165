"""Files of format 1, which are read, and written no more.

Lines::

    {"type":"turn", "version":1, …the fields of Turn…, "request":{…, "messages":[]},
     "conversation":[[0,5]], "first":4, "new":[message, …]}
    {"type":"service", "version":1, "call":{…the fields of ServiceCall…}}
    {"type":"seal", "version":1, "rollout":id, "run":run, "turns":N, "services":M, "branch":{…} or null,
     "stopped":reason or null}

The messages of a run are numbered in the order in which they first appear: `new` holds those from number `first` on.
`conversation` says, as half-open ranges of these numbers, which of them a turn's request held. So the file grows by
what is new.

Rules:

1. No seal, or one whose counts differ, means that turns or service calls may be missing.
2. What has no meaning for older files (`services`, `branch`, `run`, `stopped`) may be missing: they stay readable.
   Where no line has a run, a seal ends a rollout, and so does a turn whose number does not grow: what follows under
   the same id is another.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import inf
from typing import TypeAlias

import msgspec

from .._canonical.content import Message
from .branch import Branch
from .service import ServiceCall
from .trace import Trace, TraceWriter
from .turn import Turn


class TurnLine1(msgspec.Struct, frozen=True, tag_field="type", tag="turn", kw_only=True):
    """A turn; its messages are in the table of its run."""

    version: int = 1
    turn: Turn
    conversation: list[tuple[int, int]]
    first: int
    new: list[Message]


class ServiceLine1(msgspec.Struct, frozen=True, tag_field="type", tag="service", kw_only=True):
    """A service call."""

    version: int = 1
    call: ServiceCall


class SealLine1(msgspec.Struct, frozen=True, tag_field="type", tag="seal", kw_only=True):
    """The end of a rollout: how much of it has to be in the file."""

    version: int = 1
    rollout: str
    run: str = ""
    turns: int
    services: int = 0
    branch: Branch | None = None
    stopped: str | None = None


Line1: TypeAlias = TurnLine1 | ServiceLine1 | SealLine1


class File1:
    """What was read so far."""

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self._latest: dict[tuple[str, str], _Run] = {}

    def add(self, line: Line1, number: int) -> None:
        """One more line, the file's line of this number.

        Raises:
            Unfit: it does not fit those before it.
        """
        match line:
            case TurnLine1():
                self._run_of(line.turn, number).add_turn(line)
            case ServiceLine1():
                self._run_of(line.call, number).add_call(line.call)
            case SealLine1():
                self._run_of(line, number).seal(line, number)

    def traces(self) -> list[tuple[int, Trace]]:
        """All of them, each with its first line; those that are whole are sealed, and parents have their children."""
        named: dict[tuple[str, str], list[_Run]] = {}
        for run in self.runs:
            named.setdefault((run.trace.rollout, run.trace.run), []).append(run)
        for run in self.runs:
            run.finish()
            if (parent := _parent_of(run, named)) is not None:
                parent.writer.add_child(run.trace)
        return [(run.begun, run.trace) for run in self.runs]

    def _run_of(self, record: Turn | ServiceCall | SealLine1, number: int) -> _Run:
        """The run that this belongs to. Where lines have no run, it may be that it begins another."""
        key = (record.rollout, record.run)
        run = self._latest.get(key)
        if run is None or not (record.run or run.goes_on_with(record)):
            if run is not None:
                run.ended = min(run.ended, number)
            trace = Trace(record.rollout, run=record.run, branch=record.branch)
            run = self._latest[key] = _Run(trace, number)
            self.runs.append(run)
        return run


def _parent_of(child: _Run, named: Mapping[tuple[str, str], Sequence[_Run]]) -> _Run | None:
    """The run that it branched off: of those that bear the name, the first that had not ended when it began."""
    if (branch := child.trace.branch) is None:
        return None
    runs = named.get((branch.rollout, branch.run), ())
    # The next began when one had ended.
    at = bisect_right(runs, float(child.begun), key=lambda run: run.ended)
    return runs[at] if at < len(runs) else None


class Unfit(Exception):
    """A line that can be read, and does not fit those before it."""


class _Run:
    """What was read of one rollout."""

    def __init__(self, trace: Trace, begun: int) -> None:
        self.trace = trace
        self.writer = TraceWriter(trace)
        self.begun = begun
        """Its place among the lines, as that of its end."""
        self.ended = inf
        self._messages: dict[int, Message] = {}
        self._last_turn = self._last_call = -1
        self._seal: SealLine1 | None = None

    def goes_on_with(self, record: Turn | ServiceCall | SealLine1) -> bool:
        """Whether a line that has no run can be of this one."""
        match record:
            case Turn(number=number):
                return self._seal is None and number > self._last_turn
            case ServiceCall(number=number):
                return self._seal is None and number > self._last_call
            case SealLine1():
                return self._seal is None

    def add_turn(self, line: TurnLine1) -> None:
        """A turn, whole again."""
        turn = line.turn
        if turn.number <= self._last_turn:
            raise Unfit(f"turn {turn.number} of rollout {turn.rollout} stands behind turn {self._last_turn}")
        self._messages.update(enumerate(line.new, line.first))
        try:
            messages = tuple(
                [self._messages[number] for start, stop in line.conversation for number in range(start, stop)]
            )
        except KeyError as exc:
            text = f"message {exc} of turn {turn.number} of rollout {turn.rollout} is not in the file"
            raise Unfit(text) from None
        request = msgspec.structs.replace(turn.request, messages=messages)
        self.writer.add(msgspec.structs.replace(turn, request=request))
        self._last_turn = turn.number

    def add_call(self, call: ServiceCall) -> None:
        """A service call."""
        if call.number <= self._last_call:
            text = (
                f"service call {call.number} of rollout {call.rollout} stands behind call {self._last_call}"
            )
            raise Unfit(text)
        self.writer.add(call)
        self._last_call = call.number

    def seal(self, line: SealLine1, place: int) -> None:
        """Its end; what comes behind it will not fit the counts."""
        self._seal, self.ended = line, place
        self.writer.stop(line.stopped)

    def finish(self) -> None:
        """Seal the trace if nothing of it is missing."""
        seal = self._seal
        if seal is not None and (seal.turns, seal.services) == (len(self.trace), len(self.trace.services)):
            self.writer.seal()
