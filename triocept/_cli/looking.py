"""The commands that look at files of traces: `triocept show`, `diff` and `stats`.

Rules:

1. A reader that has gone (`head`, a pager) ends them without a word, as Ctrl-C does: by the signal, as any program.
2. What is wrong with a file is said in words, on standard error, with the line. Then the status is 1; what could be
   read was shown.
3. No more is in memory than what the rollouts hold that are open at one place of the file.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from .._screen import say
from .._trace.trace import Trace
from ..errors import TrioceptError
from .diff import show_diff
from .ending import describe_error
from .files import File, NoSuchRollout
from .page import Page
from .show import Overview
from .stats import KEYS, Stats
from .stats_table import show_stats
from .turn import show_turn
from .words import counted

__all__ = ["diff", "show", "stats"]

_file = click.argument("file", type=click.Path(path_type=Path))
_files = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
_rollout_option = click.option("--rollout", metavar="ID", help="Of this rollout, by its id or its run.")


@click.command()
@_files
@_rollout_option
@click.option("--turn", "which", metavar="N", help="One turn whole, by its number or its id.")
@click.option("--new", is_flag=True, help="Of that turn, leave out what the one before it had.")
@click.option("--json", "as_json", is_flag=True, help="That turn as one JSON document.")
def show(files: tuple[Path, ...], rollout: str | None, which: str | None, new: bool, as_json: bool) -> None:
    """Show the rollouts in all FILES, a line for each turn; or one turn whole, of one file. A fleet's store is a file.

    \b
        triocept show traces.jsonl
        triocept show traces.jsonl --turn 7 | less -R
    """
    if which is None and (new or as_json):
        raise click.UsageError("--new and --json are about one turn: say which with --turn")
    if which is not None and len(files) > 1:
        raise click.UsageError("--turn is about one file: say which")

    def look_at_all(page: Page) -> bool:
        numbers = count()

        def take(trace: Trace) -> None:
            if next(numbers):
                page.line()
            Overview(trace).show(page)

        looked = _through(files, rollout, take)
        if looked.attempts:
            page.line()
            page.line(_left_out(looked.attempts))
        return looked.well

    def look_at_one(page: Page) -> bool:
        found = File(files[0], rollout)
        trace, turn = found.turn(which or "")
        if as_json:
            page.text(msgspec.json.encode(turn).decode())
        else:
            show_turn(page, trace, turn, only_new=new)
        return not found.damages

    _look(look_at_all if which is None else look_at_one)


@click.command()
@_file
@click.argument("before")
@click.argument("after")
@_rollout_option
def diff(file: Path, before: str, after: str, rollout: str | None) -> None:
    """Show what turn AFTER asked otherwise than turn BEFORE: messages, tools, settings.

    \b
        triocept diff traces.jsonl 6 7
    """

    def look(page: Page) -> bool:
        found = File(file, rollout)
        trace = found.one()
        one, other = found.turn_of(trace, before), found.turn_of(trace, after)
        show_diff(page, trace.diff(one, other), one, other)
        return not found.damages

    _look(look)


@click.command()
@_files
@click.option(
    "--by",
    multiple=True,
    type=click.Choice([*KEYS]),
    default=("kind", "model"),
    show_default="kind, model",
    help="What calls are told apart by. May be given several times.",
)
@_rollout_option
@click.option("--json", "as_json", is_flag=True, help="As one JSON document, with all figures.")
def stats(files: tuple[Path, ...], by: tuple[str, ...], rollout: str | None, as_json: bool) -> None:
    """Count the calls in all FILES, their tokens, their seconds and those that failed. A fleet's store is a file; what
    its attempts without a result did is left out.

    \b
        triocept stats traces.jsonl
        triocept stats --by agent --by outcome --json *.jsonl
    """

    def look(page: Page) -> bool:
        sums = Stats(by)
        looked = _through(files, rollout, sums.add)
        sums.attempts = looked.attempts
        if as_json:
            page.text(msgspec.json.format(msgspec.json.encode(sums.document()), indent=2).decode())
        elif sums.rollouts:
            show_stats(page, sums)
            if looked.attempts:
                page.line(_left_out(looked.attempts))
        return looked.well

    _look(look)


def _left_out(attempts: int) -> str:
    return f"left out: {counted(attempts, 'rollout', 'rollouts')} of attempts that ended in no result"


@dataclass
class _Looked:
    well: bool = True
    """Nothing was not as it should be, and was told."""
    attempts: int = 0
    """Rollouts that were left out of stores."""


def _through(files: Sequence[Path], rollout: str | None, take: Callable[[Trace], object]) -> _Looked:
    """Each rollout of each file. What cannot be read is told, and the others are taken all the same."""
    looked = _Looked()
    without = 0
    for file in files:
        found = File(file, rollout)
        try:
            for trace in found:
                take(trace)
        except NoSuchRollout as exc:
            without += 1
            if len(files) == 1:
                raise
            if without == len(files):  # in none of them
                raise NoSuchRollout(f"no file holds a rollout {rollout}") from exc
        except (TrioceptError, OSError) as exc:
            if isinstance(exc, OSError) and exc.filename is None:  # of standard output
                raise
            say(describe_error(exc))
            looked.well = False
        looked.well = looked.well and not found.damages
        looked.attempts += found.attempts
    return looked


def _look(work: Callable[[Page], bool]) -> NoReturn:
    """Do it, and end the program: with 0, or with 1 where something was not as it should be."""
    for name in ("SIGPIPE", "SIGINT"):
        if name in signal.Signals.__members__ and signal.getsignal(signal.Signals[name]) is not None:
            signal.signal(signal.Signals[name], signal.SIG_DFL)
    try:
        well = work(Page())
        sys.stdout.flush()
    except OSError as exc:
        where = "standard output: " if exc.filename is None else ""  # a full disk, say
        say(describe_error(exc).replace("Error: ", f"Error: {where}", 1))
        well = False
    except TrioceptError as exc:
        say(describe_error(exc))
        well = False
    sys.exit(0 if well else 1)
