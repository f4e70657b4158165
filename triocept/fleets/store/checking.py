"""Whether a store is whole: each result with its traces, and each of those as it was written."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ..._trace.check import MOST_GAPS, Report, check_those
from ..._trace.entries import Gap
from .layout import DONE, TRACES, read_run
from .lines import TracePlace, index_of, lines_of
from .places import read_places
from .reading import trace_files


class StoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a store."""

    path: str
    results: int
    """Tasks, and samples of groups, that have their outcome."""
    rollouts: int
    """Those of the results."""
    attempts: int
    """Rollouts beside: of attempts that ended in no result. What is missing of them is no gap."""
    turns: int
    """Of all of them."""
    lines: int
    """Likewise, that can be read."""
    gaps: tuple[Gap, ...]
    """What is missing of a result, or not as it was written; at most 10,000 of each file. Their names are those of
    `triocept.traces.check`."""
    more: int = 0
    """How many gaps there are beside."""

    @property
    def complete(self) -> bool:
        """Whether there is no gap."""
        return not self.gaps


def check_store(directory: str | os.PathLike[str]) -> StoreReport:
    """Look at every line of a store, and at whether each result has its traces, as they were when it was done.

    One that is in use has no gaps by that: what is at work is no result yet. In memory are a kilobyte or two for each
    result, and no trace.

    Raises:
        StoreError: it is no store, or of a newer triocept.
        OSError: it cannot be read.
    """
    path = Path(directory)
    read_run(path)
    check = _Check(path)
    for file in trace_files(path):
        check.add(file)
    return check.report()


class _Check:
    """What was seen of a store so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gaps: list[Gap] = []
        self._named: dict[str, dict[str, TracePlace]] = {}
        """The traces of results, by file and by run."""
        self._results = self._lines = self._turns = self._rollouts = self._attempts = self._more = 0
        index, end = index_of(path / DONE, self._damaged)
        for line in lines_of(path / DONE, index, end):
            self._results += 1
            for place in line.traces:
                self._named.setdefault(place.file, {})[place.run] = place

    def add(self, file: Path) -> None:
        """One more file of traces."""
        named = self._named.pop(file.name, {})
        report = check_those(file, lambda gap: gap.run in named or gap.name in _OF_ALL)
        self._gaps += report.gaps
        self._more += report.more
        self._lines += report.lines
        self._turns += report.turns
        self._rollouts += len(named)
        self._attempts += max(0, report.rollouts - len(named))
        self._compare(file, named, report)

    def _compare(self, file: Path, named: dict[str, TracePlace], report: Report) -> None:
        """See that there is each trace that a result names, with the seal that it had."""
        told = {gap.run for gap in report.gaps}
        for run, place in named.items():
            digest = report.digests.get(f"{place.rollout}/{run}")
            if run in told or (digest is not None and digest == place.digest):
                continue
            if digest is None:
                self._tell("no_rollout", file, "a result names it, and nothing of it stands there", place)
            elif place.digest is not None and not _was_sealed(file, place):
                self._tell(
                    "seal_changed", file, "its seal is not the one that it had when it was done", place
                )

    def report(self) -> StoreReport:
        """All that was found."""
        for name, named in self._named.items():  # files that are gone
            for place in named.values():
                self._rollouts += 1
                self._tell("no_rollout", self._path / TRACES / name, "its file is gone", place)
        return StoreReport(
            path=os.fspath(self._path),
            results=self._results,
            rollouts=self._rollouts,
            attempts=self._attempts,
            turns=self._turns,
            lines=self._lines,
            gaps=tuple(self._gaps),
            more=self._more,
        )

    def _damaged(self, number: int, why: str) -> None:
        self._gaps.append(
            Gap(name="unreadable_line", message=why, path=os.fspath(self._path / DONE), line=number)
        )

    def _tell(self, name: str, file: Path, message: str, place: TracePlace) -> None:
        if len(self._gaps) >= MOST_GAPS:
            self._more += 1
            return
        self._gaps.append(
            Gap(name=name, message=message, path=os.fspath(file), rollout=place.rollout, run=place.run)
        )


_OF_ALL = {"newer_version", "old_format"}
"""Gaps of lines of which nobody can say whose they are. One that cannot be read is missed by its own rollout."""


def _was_sealed(file: Path, place: TracePlace) -> bool:
    """Whether it was sealed so where it ended then: a score has come later, with another seal."""
    (trace,) = read_places(file.parent, [place])
    return trace.digest == place.digest
