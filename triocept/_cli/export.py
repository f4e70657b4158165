"""`triocept export`: reads trace files, and writes their traces in another format."""

from __future__ import annotations

import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from .._trace.reader import error_of_all
from .._trace.trace import Trace
from .._util.terminal import say
from .._view.files import html_of
from ..errors import DialectError, StoreError
from ..exports import FORMATS, Losses, write_export
from ..exports._formats import RESULT_FORMATS, new_file
from ..exports.html import source_of
from ..fleets.store.layout import is_store
from .ending import in_options
from .files import UNREAD, left_out, traces_of
from .scores import add_tasks, evaluation_of
from .words import a_directory, counted, flaw

if TYPE_CHECKING:
    from ..evaluation import EvaluationResults

MOST = 10
"""Maximum number of rollouts to list in an error, and of damaged lines to report."""

STANDARD_OUTPUT = Path("-")


class WrongPath(click.ClickException):
    """Error for a path on the command line that cannot be read or written."""

    exit_code = UNREAD


@dataclass
class Export:
    files: Sequence[Path]
    to: str
    out: Path
    rollouts: tuple[str, ...] = ()
    """Ids of the rollouts to export; empty means all rollouts in the files."""
    replace: bool = False
    reward: str | None = None
    """Name of the score that becomes the reward. Used only for the format verifiers."""
    _damages: list[DialectError | StoreError] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    """Number of turns of each exported rollout."""
    _missing: list[str] = field(default_factory=list)
    """For each store of which trace files are missing: a text that describes how many results have no traces."""
    _left_out: list[str] = field(default_factory=list)
    """For each store with rollouts that are not exported: a text that contains their number and the reason."""
    _file: str = ""
    """The file that is being read; empty if the command reads only one file."""
    _others: set[str] = field(default_factory=set)

    def run(self) -> int:
        """Write the export. Return the exit status: 1 if a store contains results without traces, otherwise 0."""
        if folder := next((file for file in self.files if file.is_dir() and not is_store(file)), None):
            raise WrongPath(a_directory(folder))
        if self.out != STANDARD_OUTPUT and any(
            each.exists() and self.out.exists() and each.samefile(self.out) for each in self.files
        ):
            raise WrongPath(f"{self.out} is one of the files to read: name another file with -o")
        if len(self.files) == 1 and not self.rollouts and self.to in RESULT_FORMATS:
            results = evaluation_of(self.files[0])
            if results is not None:
                return self._write_results(results)
        if self.to not in FORMATS:
            raise click.ClickException(f"--to {self.to} needs the store of an evaluation as its only FILE")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            losses = self._write()
        for text in dict.fromkeys(str(each.message) for each in told):
            say(f"▸ {in_options(text)}")
        for text in self._missing + self._left_out:
            say(f"▸ {text}")
        for line in _some([str(damage) for damage in self._damages], "lines that cannot be read"):
            say(f"▸ {line}")
        turns = counted(sum(self._seen.values()), "turn", "turns")
        where = "" if self.out == STANDARD_OUTPUT else f" in {self.out}"
        said = f"▸ {turns} of {counted(len(self._seen), 'rollout', 'rollouts')}{where}"
        say(f"{said}; {losses}" if losses else said)
        return 1 if self._missing else 0

    def _write_results(self, results: EvaluationResults) -> int:
        """Write the results of an evaluation, and return the exit status."""
        from ..evaluation._exports import write_results

        try:
            if self.out == STANDARD_OUTPUT:
                losses = self._print(partial(write_results, results), is_folder=self.to == "harbor")
            else:
                self.out.parent.mkdir(parents=True, exist_ok=True)
                losses = write_results(results, self.to, self.out, replace=self.replace, reward=self.reward)
        except ValueError as exc:
            raise click.ClickException(str(exc)) from exc
        except FileExistsError as exc:
            raise WrongPath(f"{exc.filename} exists already: name another file, or use --force") from exc
        if results.unfinished:
            say(f"▸ {results.unfinished}")
        of = f"{len(results.samples):,} of " if len(results.samples) < results.planned else ""
        samples = of + counted(results.planned, "sample", "samples")
        where = "" if self.out == STANDARD_OUTPUT else f" in {self.out}"
        said = f"▸ {samples} of {counted(len(results.tasks), 'task', 'tasks')}{where}"
        say(f"{said}; {losses}" if losses else said)
        return 0

    def _write(self) -> Losses:
        try:
            if self.out == STANDARD_OUTPUT:
                is_folder = FORMATS[self.to].write is None
                return self._print(self._write_to, is_folder=is_folder)
            self.out.parent.mkdir(parents=True, exist_ok=True)
            return self._write_to(self.to, self.out, replace=self.replace, reward=self.reward)
        except ValueError as exc:
            if self.reward is None:
                raise
            raise click.ClickException(str(exc)) from exc
        except ModuleNotFoundError as exc:
            raise click.ClickException(str(exc)) from exc
        except FileExistsError as exc:
            can_replace = FORMATS[self.to].write is not None and not self.replace and self.out.is_file()
            hint = "name another file, or replace it with --force" if can_replace else "name another file"
            raise WrongPath(f"{exc.filename} exists already: {hint}") from exc

    def _write_to(self, to: str, path: Path, *, replace: bool = False, reward: str | None = None) -> Losses:
        if to != "html" or reward is not None:
            return write_export(self._chosen(), to, path, replace=replace, reward=reward)
        losses = Losses()
        source = source_of(self._chosen(), losses, file=lambda: self._file)
        source.notes += self._missing + self._left_out
        source.notes += _some(
            [f"a line was not read: {each}" for each in self._damages], "lines that cannot be read"
        )
        source.notes += add_tasks(source, self.files)
        with new_file(path, replace=replace) as file:
            file.write(html_of(source.document(), source.title))
        return losses

    def _print(self, write: Callable[..., Losses], *, is_folder: bool) -> Losses:
        """Write the export to standard output when it is complete.

        If the process that reads the output has ended, end without an error text.
        """
        if is_folder:
            raise WrongPath(
                f"{self.to} writes a directory, so it cannot use standard output: name a directory with -o"
            )
        with ExitStack() as stack:
            with TemporaryDirectory(prefix="triocept-") as folder:
                losses = write(self.to, Path(folder) / "export", reward=self.reward)
                file = stack.enter_context(open(Path(folder) / "export", "rb"))
            if hasattr(signal, "SIGPIPE"):
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
        return losses

    def _chosen(self) -> Iterator[Trace]:
        """Yield the traces of the rollouts that the command line names; if it names no rollout, yield all traces.

        Raise click.ClickException if a named rollout does not exist. Raise DialectError if no file is a trace file.
        """
        for trace in (each for file in self.files for each in self._traces_of(file)):
            if self.rollouts and trace.rollout not in self.rollouts:
                self._others.add(trace.rollout)
                continue
            if what := flaw(trace):
                say(f"▸ rollout {trace.rollout} is {what}")
            self._seen[trace.rollout] = self._seen.get(trace.rollout, 0) + len(trace)
            yield trace
        where = ", ".join(_some([*map(str, self.files)], "files"))
        known = {*self._seen, *self._others}
        if not known and self._missing:
            raise click.ClickException(self._missing[0])
        if not known and self._damages:
            first = self._damages[0]
            if len(self.files) > 1 or is_store(self.files[0]) or not isinstance(first, DialectError):
                raise first
            damages = [each for each in self._damages if isinstance(each, DialectError)]
            raise error_of_all(damages, self.files[0])
        if not known:
            raise click.ClickException("; ".join([f"there is no rollout in {where}", *self._left_out]))
        if missing := next((each for each in self.rollouts if each not in known), None):
            there = ", ".join(_some(sorted(known), "others"))
            raise click.ClickException(
                f"there is no rollout {missing!r} in {where}; the rollouts are {there}"
            )

    def _traces_of(self, file: Path) -> Iterator[Trace]:
        def on_missing(missing: int, text: str) -> None:
            self._missing.append(text)

        def leave_out(trace: Trace) -> bool:  # a rollout without a result, unless it is requested
            attempts.append(trace.run)
            return True

        attempts: list[str] = []
        self._file = str(file) if len(self.files) > 1 else ""
        yield from traces_of(file, self._damages.append, on_missing, leave_out, wanted=self.rollouts)
        if attempts and not self.rollouts:
            self._left_out.append(left_out(file, len(attempts)))


def _some(names: list[str], what: str) -> list[str]:
    """Return at most `MOST` names. If there are more names, add a text with the number of the other names."""
    more = len(names) - MOST
    return [*names[:MOST], *([f"and {more} {what}"] if more > 0 else [])]
