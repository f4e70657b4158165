"""A directory of traces: one file for each rollout, and its holder.

=============================  ======================================================================
path                           content
=============================  ======================================================================
`<rollout>.<run>.jsonl.open`   the rollout runs; or its program was killed, and it never ends (if the
                               other name exists, too: killed while it added a late score)
`<rollout>.<run>.jsonl`        the rollout has ended: a sealed trace, free to be claimed
`taken/<rollout>.<run>.jsonl`  a holder has claimed the trace and acknowledged it
`damaged/…`                    a trace without a complete seal: parts of it are missing
=============================  ======================================================================

Rules:

1. A file gets its name by a rename: no process finds an incomplete file.
2. The holder of a file holds its lock (flock). The kernel releases the lock when the process ends, however it ends. So
   an unacknowledged file is given back without a time limit that would have to be guessed.
3. A file is given whole or not at all: if a child is incomplete, the family is incomplete.
4. A lock counts only while the path leads to the locked file: another holder may have acknowledged the file meanwhile.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, final
from urllib.parse import quote

if TYPE_CHECKING:
    from .trace import Trace

SEALED = ".jsonl"
OPEN = SEALED + ".open"
_TAKEN, _DAMAGED = "taken", "damaged"
_LONGEST = 120
"""Maximum bytes of a rollout's id in a file name, which has at most 255 bytes."""


def file_name(rollout: str, run: str) -> str:
    """Return the name of a rollout's file, without its ending: the name is unique to the rollout."""
    return f"{quote(rollout, safe='')[:_LONGEST]}.{run}"


def family(trace: Trace) -> Iterator[Trace]:
    """Yield all traces in the file of a trace: the trace, its children, and their children."""
    yield trace
    for child in trace.children:
        yield from family(child)


def sealed_files(directory: Path) -> list[Path]:
    """Return the files that may be claimed, the oldest first by the clock of the file system.

    Raises:
        OSError: the directory cannot be read.
    """
    with os.scandir(directory) as entries:
        return [directory / name for _, name in sorted(_ages(entries))]


def _ages(entries: Iterator[os.DirEntry[str]]) -> Iterator[tuple[int, str]]:
    for entry in entries:
        if entry.name.endswith(SEALED):
            try:
                if entry.is_file():
                    yield entry.stat().st_mtime_ns, entry.name
            except FileNotFoundError:
                continue


@final
class Claim:
    """A file locked by this process. Made by `of` only."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd

    @classmethod
    def of(cls, path: Path) -> Claim | None:
        """Return a claim on the file; None if another process holds the file, or it no longer exists.

        Raises:
            OSError: the file cannot be opened, or its file system has no locks.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        claim = cls(path, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if claim._is_in_place():
                return claim
        except BlockingIOError:
            pass
        except OSError as exc:
            claim._close()
            exc.filename = str(path)
            raise
        claim._close()
        return None

    def acknowledge(self) -> None:
        """Move the file to `taken`: it is not given out again.

        Raises:
            OSError: the file could not be moved, and is still claimed.
        """
        self._move(_TAKEN)

    def put_aside(self) -> Path:
        """Move a damaged file to `damaged`, and return its new path.

        Raises:
            OSError: the file could not be moved, and is still claimed.
        """
        return self._move(_DAMAGED)

    def give_back(self) -> None:
        """Release the file to other holders, and change the directory's modification time to notify them."""
        self._close()
        with suppress(OSError):  # other holders also look at intervals
            os.utime(self.path.parent)

    def _move(self, folder: str) -> Path:
        target = self.path.parent / folder / self.path.name
        target.parent.mkdir(exist_ok=True)
        os.rename(self.path, target)
        self.path = target
        self._close()
        return target

    def _is_in_place(self) -> bool:
        assert self._fd is not None
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return False
        own = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)  # else a process forked meanwhile would keep the lock
            os.close(fd)
