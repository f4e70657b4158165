"""Check that each result in a store has its traces, unchanged since the result was stored."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ..._trace.check import MOST_GAPS, check_those
from ..._trace.entries import Gap
from .layout import DONE, TRACES, read_run
from .lines import TracePlace, index_of, lines_of
from .places import read_places
from .reading import trace_files


class StoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `check_store`: counts of results and rollouts, and the missing or changed parts of results (`gaps`)."""

    path: str
    results: int
    """Number of results; each sample of a group counts."""
    rollouts: int
    """Number of rollouts that belong to results."""
    attempts: int
    """Number of rollouts of attempts without a result. Missing parts of these rollouts are not reported."""
    turns: int
    """Number of turns of all rollouts in the store."""
    lines: int
    """Number of readable lines of all rollouts in the store."""
    gaps: tuple[Gap, ...]
    """The missing or changed parts of results, at most 10,000 for each file. `triocept.traces.check` lists the names of
    gaps."""
    more: int = 0
    """Number of missing or changed parts that `gaps` does not contain, because there are too many."""

    @property
    def complete(self) -> bool:
        """True if `gaps` is empty: no part of a result is missing or changed."""
        return not self.gaps


def check_store(directory: str | os.PathLike[str]) -> StoreReport:
    """Check every line of a store, and that each result has its traces, unchanged since the result was stored.

    A store may be checked while a driver (the program that runs the fleet) uses it. Running tasks have no results yet,
    so the check expects no traces of them. The check needs one or two kilobytes of memory for each result, and keeps no
    trace in memory.

    Raises:
        StoreError: the directory is not a store, or a newer triocept wrote it.
        OSError: the store cannot be read.
    """
    path = Path(directory)
    read_run(path)
    check = _Check(path)
    for file in trace_files(path, check.skip):
        check.add(file)
    return check.report()


class _Check:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._gaps: list[Gap] = []
        self._named: dict[str, dict[str, TracePlace]] = {}
        """For each file, by its name: the places of the traces to which results refer, by `Trace.run`."""
        self._results = self._lines = self._turns = self._rollouts = self._attempts = self._more = 0

        def on_damage(number: int, why: str) -> None:
            self._gaps.append(
                Gap(name="unreadable_line", message=why, path=os.fspath(path / DONE), line=number)
            )

        index, end = index_of(path / DONE, on_damage)
        for line in lines_of(path / DONE, index, end):
            self._results += 1
            for place in line.traces:
                self._named.setdefault(place.file, {})[place.run] = place

    def add(self, file: Path) -> None:
        named = self._named.pop(file.name, {})
        report = check_those(file, lambda gap: gap.run in named or gap.name in _OF_ALL)
        self._gaps += report.gaps
        self._more += report.more
        self._lines += report.lines
        self._turns += report.turns
        self._rollouts += len(named)
        self._attempts += max(0, report.rollouts - len(named))
        reported = {gap.run for gap in report.gaps}
        for run, place in named.items():
            digest = report.digests.get(f"{place.rollout}/{run}")
            if run in reported or (digest is not None and digest == place.digest):
                continue
            if digest is None:
                self._add_gap(
                    "no_rollout",
                    file,
                    "a result refers to this rollout, but the file has no line of it",
                    place,
                )
            elif place.digest is not None:
                (trace,) = read_places(file.parent, [place])
                if trace.digest != place.digest:  # else a score came later, with another seal
                    text = "the rollout's seal has changed since the task's result was stored"
                    self._add_gap("seal_changed", file, text, place)

    def skip(self, file: Path, reason: str) -> None:
        self._named.pop(file.name, None)
        gap = Gap(name="file_not_read", message=f"the file {reason}", path=os.fspath(file))
        self._gaps.append(gap)

    def report(self) -> StoreReport:
        for name, named in self._named.items():  # missing files
            for place in named.values():
                self._rollouts += 1
                self._add_gap(
                    "no_rollout", self._path / TRACES / name, "the rollout's file is missing", place
                )
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

    def _add_gap(self, name: str, file: Path, message: str, place: TracePlace) -> None:
        if len(self._gaps) >= MOST_GAPS:
            self._more += 1
            return
        self._gaps.append(
            Gap(name=name, message=message, path=os.fspath(file), rollout=place.rollout, run=place.run)
        )


_OF_ALL = {"newer_version", "old_format"}
"""Names of gaps that are reported for every line, because the rollout of such a line is unknown. Other unreadable lines
need not be here: each leaves a missing line in a rollout, which is reported for that rollout.
"""
