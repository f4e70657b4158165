"""The traces in a file of `JSONLRecorder`, whole or damaged; how the file looks is in `lines`."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf

import msgspec

from .._canonical.content import Message
from ..errors import DialectError
from .lines import Line, SealLine, ServiceLine, TurnLine, lines_in
from .service import ServiceCall
from .trace import Trace, TraceWriter
from .turn import Turn

__all__ = ["read_traces"]


def read_traces(
    path: str | os.PathLike[str], *, on_damage: Callable[[DialectError], None] | None = None
) -> list[Trace]:
    """The traces in a file of `JSONLRecorder`, in the order in which they began.

    A line that cannot be read costs itself alone, and its trace is not sealed. A cut line at the very end is no damage:
    the program was killed in the middle of a write, or is at it now.

    Args:
        on_damage: is given a `DialectError` for each line that cannot be read; its path is `file:line`. It may raise
            it. None: a warning for each.

    Raises:
        OSError: the file cannot be read.
        DialectError: no line of the file is ours, or one is of a newer triocept; the path is `file:line`.
    """
    file = _File()
    for place, line in _lines_of(path):
        file.add(line, place)
    if file.damages and not file.runs:
        raise file.damages[0]
    for damage in file.damages:
        if on_damage is None:
            warnings.warn(str(damage), stacklevel=2)
        else:
            on_damage(damage)
    return file.traces()


def _lines_of(path: str | os.PathLike[str]) -> Iterator[tuple[str, Line | DialectError]]:
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            place = f"{path}:{number}"
            for line in lines_in(data, place) if data.strip() else ():
                if data.endswith(b"\n") or not isinstance(line, DialectError):
                    yield place, line


class _File:
    """What was read so far."""

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self.damages: list[DialectError] = []
        self._latest: dict[tuple[str, str], _Run] = {}
        self._lines = 0

    def add(self, line: Line | DialectError, place: str) -> None:
        """One more line, or what is wrong with it."""
        self._lines += 1
        try:
            match line:
                case DialectError():
                    self.damages.append(line)
                case TurnLine():
                    self._run_of(line.turn).add_turn(line)
                case ServiceLine():
                    self._run_of(line.call).add_call(line.call)
                case SealLine():
                    self._run_of(line).seal(line, self._lines)
        except _Unfit as exc:
            self.damages.append(DialectError(str(exc), path=place))

    def traces(self) -> list[Trace]:
        """All of them; those that are whole are sealed, and parents have their children."""
        named: dict[tuple[str, str], list[_Run]] = {}
        for run in self.runs:
            named.setdefault((run.trace.rollout, run.trace.run), []).append(run)
        for run in self.runs:
            run.finish()
            if (parent := _parent_of(run, named)) is not None:
                parent.writer.add_child(run.trace)
        return [run.trace for run in self.runs]

    def _run_of(self, record: Turn | ServiceCall | SealLine) -> _Run:
        """The run that this belongs to. Where lines have no run, it may be that it begins another."""
        key = (record.rollout, record.run)
        run = self._latest.get(key)
        if run is None or not (record.run or run.goes_on_with(record)):
            if run is not None:
                run.ended = min(run.ended, self._lines)
            trace = Trace(record.rollout, run=record.run, branch=record.branch)
            run = self._latest[key] = _Run(trace, self._lines)
            self.runs.append(run)
        return run


def _parent_of(child: _Run, named: Mapping[tuple[str, str], Sequence[_Run]]) -> _Run | None:
    """The run that it branched off: of those that bear the name, the first that had not ended when it began."""
    if (branch := child.trace.branch) is None:
        return None
    runs = named.get((branch.rollout, branch.run), ())
    at = bisect_right(
        runs, float(child.begun), key=lambda run: run.ended
    )  # the next began when one had ended
    return runs[at] if at < len(runs) else None


class _Unfit(Exception):
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
        self._seal: SealLine | None = None

    def goes_on_with(self, record: Turn | ServiceCall | SealLine) -> bool:
        """Whether a line that has no run can be of this one."""
        match record:
            case Turn(number=number):
                return self._seal is None and number > self._last_turn
            case ServiceCall(number=number):
                return self._seal is None and number > self._last_call
            case SealLine():
                return self._seal is None

    def add_turn(self, line: TurnLine) -> None:
        """A turn, whole again."""
        turn = line.turn
        if turn.number <= self._last_turn:
            raise _Unfit(f"turn {turn.number} of rollout {turn.rollout} stands behind turn {self._last_turn}")
        self._messages.update(enumerate(line.new, line.first))
        try:
            messages = tuple(
                [self._messages[number] for start, stop in line.conversation for number in range(start, stop)]
            )
        except KeyError as exc:
            text = f"message {exc} of turn {turn.number} of rollout {turn.rollout} is not in the file"
            raise _Unfit(text) from None
        request = msgspec.structs.replace(turn.request, messages=messages)
        self.writer.append(msgspec.structs.replace(turn, request=request))
        self._last_turn = turn.number

    def add_call(self, call: ServiceCall) -> None:
        """A service call."""
        if call.number <= self._last_call:
            text = (
                f"service call {call.number} of rollout {call.rollout} stands behind call {self._last_call}"
            )
            raise _Unfit(text)
        self.writer.append_service(call)
        self._last_call = call.number

    def seal(self, line: SealLine, place: int) -> None:
        """Its end; what comes behind it will not fit the counts."""
        self._seal, self.ended = line, place
        self.writer.stop(line.stopped)

    def finish(self) -> None:
        """Seal the trace if nothing of it is missing."""
        seal = self._seal
        if seal is not None and (seal.turns, seal.services) == (len(self.trace), len(self.trace.services)):
            self.writer.seal()
