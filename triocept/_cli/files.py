"""The rollouts of a file, one after the other, and what is wrong with it, in words and with the line.

What can be read is read. A line that cannot is told on standard error; so many of them are no file of ours, and are
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from .._trace.trace import Trace
from .._trace.turn import Turn
from .._tracefiles.follow import iter_traces
from .._util.terminal import say
from ..errors import DialectError, TrioceptError
from ..fleets.store.layout import is_store
from ..fleets.store.reading import named_runs, trace_files
from .words import a_directory, counted

UNREAD = 2
"""The exit status where a file that was named cannot be read, or is not there: as of a wrong command line."""

_TOLD = 10
"""Lines that cannot be read, and rollouts to choose from, that are told one by one."""


class NotThere(TrioceptError):
    """A file does not hold what was asked for."""


class NotAFile(NotThere):
    """A directory was given for a file."""


class NoSuchRollout(NotThere):
    """A file does not hold the rollout that was asked for, and holds others."""


class File:
    """A file of `JSONLRecorder`; or a fleet's store, of which only those rollouts are taken that are of results.

    Args:
        path: it.
        rollout: the id or the run of those that are wanted; None: all.
    """

    def __init__(self, path: Path, rollout: str | None = None) -> None:
        self._path = path
        self._rollout = rollout
        self.damages = 0
        """Lines that could not be read so far."""
        self.attempts = 0
        """Rollouts of a store that were left out: of attempts that ended in no result."""

    def __iter__(self) -> Iterator[Trace]:
        found = 0
        others: list[str] = []
        for trace in self._traces():
            if self._rollout in (None, trace.rollout, trace.run):
                found += 1
                yield trace
            elif len(others) <= _TOLD:
                others.append(trace.rollout)
        if self.damages > _TOLD:
            say(f"{self._path}: and {counted(self.damages - _TOLD, 'line', 'lines')} more")
        if not found:
            raise (NoSuchRollout if others else NotThere)(self._nothing(others))

    def _traces(self) -> Iterator[Trace]:
        if self._path.is_dir() and not is_store(self._path):
            raise NotAFile(a_directory(self._path))
        return traces_of(self._path, self._tell, self._leave_out)

    def _leave_out(self, trace: Trace) -> bool:
        """Whether a rollout that is of no result is left out: one that was asked for is not."""
        left_out = self._rollout not in (trace.rollout, trace.run)
        self.attempts += left_out
        return left_out

    def one(self) -> Trace:
        """The only rollout; NotThere: there are several, or none."""
        found: Trace | None = None
        more: list[str] = []
        for trace in self:
            if found is None:
                found = trace
            elif len(more) <= _TOLD:
                more.append(self._name(trace))
        assert found is not None
        if more:
            raise NotThere(
                f"{self._path} holds several rollouts; say which with --rollout: "
                f"{_listed([self._name(found), *more])}"
            )
        return found

    def turn(self, which: str) -> tuple[Trace, Turn]:
        """The turn of this number or id, of the only rollout; NotThere: there is none."""
        trace = self.one()
        return trace, self.turn_of(trace, which)

    def turn_of(self, trace: Trace, which: str) -> Turn:
        """The turn of this number or id; NotThere: there is none."""
        found = next((turn for turn in trace if which in (str(turn.number), turn.id)), None)
        if found is None:
            numbers = ", ".join(_ranges([turn.number for turn in trace])) or "none"
            raise NotThere(f"rollout {trace.rollout} in {self._path} has no turn {which}; it has {numbers}")
        return found

    def _name(self, trace: Trace) -> str:
        """What tells it from others: its id, or, where that was asked for, its run."""
        return trace.run if self._rollout == trace.rollout and trace.run else trace.rollout

    def _nothing(self, others: list[str]) -> str:
        if others:
            return f"{self._path} holds no rollout {self._rollout}; it has {_listed(others)}"
        if self.attempts:
            return f"{self._path} holds no result yet, but {counted(self.attempts, 'rollout', 'rollouts')} of attempts"
        return (
            f"{self._path} holds no rollout: {'no line of it can be read' if self.damages else 'it is empty'}"
        )

    def _tell(self, damage: DialectError) -> None:
        self.damages += 1
        if self.damages <= _TOLD:
            say(f"not read: {damage}")


def traces_of(
    path: Path,
    on_damage: Callable[[DialectError], object],
    leave_out: Callable[[Trace], bool] = lambda trace: True,
) -> Iterator[Trace]:
    """The rollouts of a file; of a fleet's store those of results, and others that are not to be left out."""
    if not is_store(path):
        yield from iter_traces(path, on_damage=on_damage)
        return
    named = named_runs(path)
    for file in trace_files(path):
        for trace in iter_traces(file, on_damage=on_damage):
            if trace.run in named or not leave_out(trace):
                yield trace


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > _TOLD else ""
    return f"{', '.join(names[:_TOLD])}{more}"


def _ranges(numbers: list[int]) -> Iterator[str]:
    """`0-5`, `8`."""
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        yield f"{numbers[at]}" if at == end else f"{numbers[at]}-{numbers[end]}"
        at = end + 1
