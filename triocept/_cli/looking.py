"""The commands `triocept show`, `diff` and `stats`, which read trace files.

Rules:

1. If the process that reads the output (`head`, a pager) has ended, the command ends silently. Ctrl-C ends the command
   with SIGINT.
2. Errors in a file are described on standard error, with the number of the line; the readable content of the file is
   still shown. As in `check`, the exit status is 1 after such an error, and 2 if a file cannot be opened.
3. Only rollouts whose end has not been read yet are in memory.
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

from .._trace.trace import Trace
from .._util.terminal import say
from ..errors import StoreError, TrioceptError
from .diff import show_diff
from .ending import describe_error
from .files import UNREAD, File, NoSuchRollout, NotAFile
from .options import Argument, Command, InputPath, files_argument
from .page import Page
from .scores import METADATA, SCORE_KEYS, StatsKey, evaluation_of, scores_document, show_scores
from .show import Overview
from .stats import KEYS, Stats
from .stats_table import show_stats
from .turn import show_turn
from .words import counted

_rollout_option = click.option(
    "--rollout",
    metavar="ID",
    help="Read only this rollout. ID is the rollout's id, or the id of its run.",
)


@click.command(cls=Command, short_help="Show the rollouts of trace files, or one turn.")
@files_argument
@_rollout_option
@click.option(
    "--turn", "which", metavar="N", help="Show one turn of one FILE completely. N is the turn's number or id."
)
@click.option("--new", is_flag=True, help="With --turn: leave out messages that are not new in this turn.")
@click.option("--json", "as_json", is_flag=True, help="With --turn: print the turn as JSON.")
def show(files: tuple[Path, ...], rollout: str | None, which: str | None, new: bool, as_json: bool) -> None:
    """Show the rollouts in all FILES with a line for each turn, or one complete turn of one file.

    A FILE may also be the directory of a fleet's store.

    \b
    triocept show traces.jsonl
    triocept show traces.jsonl --turn 7 | less -R
    """
    if which is None and (new or as_json):
        raise click.UsageError("--new and --json need --turn N, which chooses the turn")
    if which is not None and len(files) > 1:
        raise click.UsageError(
            f"--turn needs one file, not {len(files)}: name only the file that holds the turn"
        )

    def look_at_all(page: Page) -> int:
        numbers = count()

        def take(trace: Trace) -> None:
            if next(numbers):
                page.line()
            Overview(trace).show(page)

        looked = _through(files, rollout, take)
        if looked.attempts:
            page.line()
            page.line(_left_out(looked.attempts))
        return looked.status

    def look_at_one(page: Page) -> int:
        found = File(files[0], rollout)
        trace, turn = found.turn(which or "")
        if as_json:
            page.text(msgspec.json.encode(turn).decode())
        else:
            show_turn(page, trace, turn, only_new=new)
        return _status(found)

    end_with_page(look_at_all if which is None else look_at_one)


_DIFF = "Name a trace file and two of its turns, as in: triocept diff traces.jsonl 6 7"


@click.command(cls=Command, short_help="Compare the requests of two turns.")
@click.argument("file", type=InputPath(_DIFF))
@click.argument("before", type=Argument(_DIFF))
@click.argument("after", type=Argument(_DIFF))
@_rollout_option
def diff(file: Path, before: str, after: str, rollout: str | None) -> None:
    """Show how the request of turn AFTER differs from the request of turn BEFORE: messages, tools, settings.

    BEFORE and AFTER are each the number or the id of a turn.

    \b
    triocept diff traces.jsonl 6 7
    """
    if not file.exists() and Path(after).exists():
        raise click.UsageError(f"the file comes first, as in: triocept diff {after} {file} {before}")

    def look(page: Page) -> int:
        found = File(file, rollout)
        trace = found.one()
        one, other = found.turn_of(trace, before), found.turn_of(trace, after)
        show_diff(page, trace.diff(one, other), one, other)
        return _status(found)

    end_with_page(look)


@click.command(cls=Command, short_help="Count calls, tokens, seconds and failures.")
@files_argument
@click.option(
    "--by",
    multiple=True,
    type=StatsKey(),
    metavar="NAME",
    default=("kind", "model"),
    show_default="kind, model",
    help=f"Group the calls by this property, or the scores of an evaluation by task, scorer or metadata.KEY. May be "
    f"given several times. Names: {', '.join(KEYS)}, task, scorer, metadata.KEY.",
)
@_rollout_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with all figures.")
def stats(files: tuple[Path, ...], by: tuple[str, ...], rollout: str | None, as_json: bool) -> None:
    """Count the calls in all FILES, and their tokens, seconds and failures.

    A FILE may also be the directory of a fleet's store. The store's rollouts without a result are not
    counted. For the store of an evaluation, the scores are printed, too.

    \b
    triocept stats traces.jsonl
    triocept stats --by task runs/qwen
    triocept stats --by agent --by outcome --json *.jsonl
    """

    def look(page: Page) -> int:
        of_scores = [each for each in by if each in SCORE_KEYS or each.startswith(METADATA)]
        of_calls = [each for each in by if each not in of_scores]
        evaluations = [] if rollout is not None else [(file, evaluation_of(file)) for file in files]
        found = [(file, results) for file, results in evaluations if results is not None]
        if of_scores and not found:
            raise NoSuchRollout(
                f"--by {of_scores[0]} needs the store of an evaluation: no FILE is the store of an evaluation"
            )
        if not as_json:
            for _, results in found:
                show_scores(page, results, of_scores)
                page.line()
        if not of_calls and not as_json:
            return 0
        sums = Stats(of_calls)
        looked = _through(files, rollout, sums.add)
        sums.attempts = looked.attempts
        if as_json:
            document = sums.document()
            if found:
                document["evaluations"] = [scores_document(file, each, of_scores) for file, each in found]
            page.text(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
        elif sums.rollouts:
            show_stats(page, sums)
            if looked.attempts:
                page.line(_left_out(looked.attempts))
        return looked.status

    end_with_page(look)


def _left_out(attempts: int) -> str:
    return f"left out: {counted(attempts, 'rollout', 'rollouts')} without a result"


@dataclass
class _Looked:
    status: int = 0
    """Exit status of the command: the highest status of all files."""
    attempts: int = 0
    """Number of rollouts in stores that were left out, because their attempts ended without a result."""


def _through(files: Sequence[Path], rollout: str | None, take: Callable[[Trace], object]) -> _Looked:
    """Call `take` with each rollout of each file. Report unreadable parts of a file, and read its other parts."""
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
            if without == len(files):  # in no file at all
                raise NoSuchRollout(f"none of the files contains a rollout {rollout}") from exc
        except (TrioceptError, OSError) as exc:
            if isinstance(exc, OSError) and exc.filename is None:  # from standard output
                raise
            say(describe_error(exc))
            looked.status = max(looked.status, _status_of(exc))
        looked.status = max(looked.status, _status(found))
        looked.attempts += found.attempts
    return looked


def _status(file: File) -> int:
    """Return the exit status for a file that was read.

    The status is 1 if a line is unreadable, or if the file is a store and lacks a trace file; otherwise 0.
    """
    return 1 if file.damages or file.missing else 0


def _status_of(error: OSError | TrioceptError) -> int:
    """Return the exit status for an error: `UNREAD` if the file or store cannot be read, otherwise 1."""
    unread = isinstance(error, NotAFile | StoreError) or (
        isinstance(error, OSError) and error.filename is not None
    )
    return UNREAD if unread else 1


def end_with_page(work: Callable[[Page], int]) -> NoReturn:
    """Call `work`, then end the program.

    The exit status is the number that `work` returns or, after an error, the status for this error.
    """
    for name in ("SIGPIPE", "SIGINT"):
        if name in signal.Signals.__members__ and signal.getsignal(signal.Signals[name]) is not None:
            signal.signal(signal.Signals[name], signal.SIG_DFL)
    try:
        status = work(Page())
        sys.stdout.flush()
    except OSError as exc:
        where = "standard output: " if exc.filename is None else ""  # for example, a full disk
        say(describe_error(exc).replace("Error: ", f"Error: {where}", 1))
        status = _status_of(exc)
    except TrioceptError as exc:
        say(describe_error(exc))
        status = _status_of(exc)
    sys.exit(status)
