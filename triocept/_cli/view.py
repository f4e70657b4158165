"""`triocept view`: serves a page that shows recorded trace files in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import trio

from .._trace.reader import error_of_all
from .._trace.trace import Trace
from .._util.terminal import say
from .._view.source import Source
from ..errors import DialectError, StoreError, TrioceptError
from ..fleets.store.layout import is_store
from .ending import describe_error
from .files import UNREAD, NotAFile, NotThere, left_out, traces_of
from .scores import add_tasks
from .words import a_directory, counted, flaw

MOST_NOTES = 20
"""Maximum problems of files to show on the page."""


class Unreadable(click.ClickException):
    """Error for a file on the command line that cannot be read, or for files without a rollout."""

    exit_code = UNREAD


@dataclass(frozen=True)
class View:
    files: Sequence[Path]
    host: str
    port: int

    async def run(self) -> int:
        """Read the files, then serve the page until a signal ends the command.

        Raises:
            Unreadable: a file cannot be read, or the files contain no rollout.
            OSError: the address cannot be bound.
        """
        try:
            # a read from a pipe may never return, and Ctrl-C must end the command
            source = await trio.to_thread.run_sync(self.read, abandon_on_cancel=True)
        except (TrioceptError, OSError) as exc:
            raise Unreadable(describe_error(exc).removeprefix("Error: ")) from exc
        from .._view.recorded import serve_source  # here: the other commands need no web server

        async with serve_source(source, host=self.host, port=self.port) as url:
            runs = counted(len(source.runs), "rollout", "rollouts")
            say(f"▸ view     {url}")
            say(f"▸ {runs}; to end the command, press Ctrl-C")
            await trio.sleep_forever()
        raise AssertionError

    def read(self) -> Source:
        """Return the rollouts of all files, and the problems of the files as notes that the page shows.

        A store may come from another person. So only regular files in the store are read, and no link that leads out of
        the store is followed.

        Raises:
            NotThere: the files contain no rollout.
            DialectError: another version of triocept wrote a file.
            OSError: a file cannot be read.
        """
        source = Source(", ".join(file.name for file in self.files))
        notes: list[str] = []
        damages: list[DialectError | StoreError] = []
        attempts: list[str] = []

        def on_damage(damage: DialectError | StoreError) -> None:
            notes.append(f"a line was not read: {damage}")
            damages.append(damage)

        def on_missing(missing: int, text: str) -> None:
            notes.append(text)

        def on_skip(part: Path, reason: str) -> None:
            notes.append(f"a file was not read: {part} {reason}")

        def leave_out(trace: Trace) -> bool:
            attempts.append(trace.run)
            return True

        for file in self.files:
            if file.is_dir() and not is_store(file):
                raise NotAFile(a_directory(file))
            for trace in traces_of(file, on_damage, on_missing, leave_out, on_skip=on_skip):
                run = source.add(trace, str(file) if len(self.files) > 1 else "")
                run.update()
                if what := flaw(trace):
                    notes.append(f"{file}: rollout {trace.rollout} is {what}")
            if attempts:
                notes.append(left_out(file, len(attempts)))
                attempts.clear()
        if not source.runs:
            unread = [each for each in damages if isinstance(each, DialectError)]
            if unread and len(self.files) == 1 and not is_store(self.files[0]):
                raise error_of_all(unread, self.files[0])
            names = ", ".join(map(str, self.files))
            raise NotThere(f"no rollout can be read in {names}{f'; {notes[0]}' if notes else ''}")
        notes += add_tasks(source, self.files)
        for note in notes[:MOST_NOTES]:
            say(f"▸ {note}")
        source.notes = notes[:MOST_NOTES]
        if len(notes) > MOST_NOTES:
            source.notes.append(f"and {len(notes) - MOST_NOTES} more, which `triocept check` shows")
        return source
