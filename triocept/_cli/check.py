"""`triocept check`: checks that trace files are complete, and prints a line for each missing or changed part (gap)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from .._trace.check import Report, check
from .._trace.reader import content_of
from .._util.terminal import visible
from ..errors import StoreError
from ..fleets.store.checking import StoreReport, check_store
from ..fleets.store.layout import is_store
from .files import UNREAD
from .words import a_directory, counted

WHOLE, GAPS = 0, 1
"""Exit statuses. `WHOLE`: all files are complete. `GAPS`: a file has a gap. The third status, `UNREAD` (a file cannot
be read), is defined in `files`."""

_SHOWN = 10
"""Maximum gaps to list for a file without a readable line. In such a file, each line is a gap."""


def check_files(paths: Sequence[Path], *, as_json: bool, quiet: bool) -> int:
    """Check each file, print its gaps on standard output, and return the exit status."""
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
            for line in lines_of(report):
                click.echo(visible(line))
        sys.stdout.flush()
    return status


def lines_of(report: Report | StoreReport) -> Iterator[str]:
    """Yield the lines of output for a file's `report`: a line for each gap, then a line with the result."""
    if (
        isinstance(report, Report)
        and not report.lines
        and {gap.name for gap in report.gaps} == {"unreadable_line"}
    ):
        # no line was written by any version of triocept, so gaps of single lines would not help
        yield f"{report.path} is not a trace file: {content_of(report.path)}"
        return
    shown = report.gaps if report.lines or isinstance(report, StoreReport) else report.gaps[:_SHOWN]
    yield from map(str, shown)
    if more := len(report.gaps) - len(shown) + report.more:
        yield f"{report.path}: {counted(more, 'more gap', 'more gaps')}"
    counts = [counted(report.rollouts, "rollout", "rollouts")]
    if isinstance(report, StoreReport):
        counts.insert(0, counted(report.results, "result", "results"))
        if report.attempts:
            attempts = counted(report.attempts, "rollout", "rollouts")
            counts.append(f"{attempts} without a result")
    counts += [counted(report.turns, "turn", "turns"), counted(report.lines, "line", "lines")]
    if report.complete:
        yield f"{report.path}: complete: {', '.join(counts)}"
    elif isinstance(report, Report) and all(gap.name == "empty" for gap in report.gaps):
        yield f"{report.path}: the file is empty"
    else:  # the content is described separately from the gaps, which do not count it
        gaps = counted(len(report.gaps) + report.more, "gap", "gaps")
        yield f"{report.path}: {gaps}; the readable part: {', '.join(counts)}"
