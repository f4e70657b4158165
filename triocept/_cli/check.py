"""`triocept check`: checks that trace files are complete, and prints each gap on its own line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from .._trace.check import Report, check
from .._util.terminal import visible
from ..errors import StoreError
from ..fleets.store.checking import StoreReport, check_store
from ..fleets.store.layout import is_store
from .files import UNREAD
from .words import a_directory, counted

WHOLE, GAPS = 0, 1
"""Exit statuses, in addition to `UNREAD`."""

_TOLD = 10
"""Maximum gaps to list of an unreadable file: it may have as many as lines."""


def check_files(paths: Sequence[Path], *, as_json: bool, quiet: bool) -> int:
    """Check each file, print the findings on standard output, and return the exit status."""
    status = WHOLE
    for path in paths:
        report: Report | StoreReport
        try:
            report = check_store(path) if is_store(path) else check(path)
        except StoreError as exc:
            click.echo(visible(str(exc)), err=True)
            status = UNREAD
            continue
        except OSError as exc:
            why = a_directory(path) if isinstance(exc, IsADirectoryError) else f"{path}: {exc.strerror}"
            click.echo(visible(why), err=True)
            status = UNREAD
            continue
        status = max(status, WHOLE if report.complete else GAPS)
        if as_json:
            found = {"complete": report.complete, **msgspec.structs.asdict(report)}
            click.echo(msgspec.json.encode(found))
        elif not quiet:
            _print(report)
        sys.stdout.flush()
    return status


def _print(report: Report | StoreReport) -> None:
    if _is_something_else(report):  # the gaps of single lines do not help
        click.echo(visible(f"{report.path}: not a trace file: {report.gaps[0].message}"))
        return
    shown = report.gaps if report.lines or isinstance(report, StoreReport) else report.gaps[:_TOLD]
    for gap in shown:
        click.echo(visible(str(gap)))
    if more := len(report.gaps) - len(shown) + report.more:
        click.echo(f"{visible(report.path)}: and {counted(more, 'gap', 'gaps')} more")
    click.echo(f"{visible(report.path)}: {_verdict(report)}")


def _is_something_else(report: Report | StoreReport) -> bool:
    """Return True if no line of the file is triocept's, of any version."""
    found = {gap.name for gap in report.gaps}
    return isinstance(report, Report) and not report.lines and found == {"unreadable_line"}


def _verdict(report: Report | StoreReport) -> str:
    there = ", ".join(_counts(report))
    if report.complete:
        return f"whole: {there}"
    if isinstance(report, Report) and all(gap.name == "empty" for gap in report.gaps):
        return "empty"
    # The content is described separately from the gaps, which do not count it.
    return f"{counted(len(report.gaps) + report.more, 'gap', 'gaps')}; what can be read: {there}"


def _counts(report: Report | StoreReport) -> Iterator[str]:
    if isinstance(report, StoreReport):
        yield counted(report.results, "result", "results")
    yield counted(report.rollouts, "rollout", "rollouts")
    if isinstance(report, StoreReport) and report.attempts:
        yield f"{counted(report.attempts, 'rollout', 'rollouts')} of attempts that ended in no result"
    yield counted(report.turns, "turn", "turns")
    yield counted(report.lines, "line", "lines")
