"""A directory of traces: a file for each rollout, and who has it.

=============================  ======================================================================
path                           what it is
=============================  ======================================================================
`<rollout>.<run>.jsonl.open`   the rollout runs; or its program was killed, and it never ends (where it
                               has the other name, too: it was killed while it added a late score)
`<rollout>.<run>.jsonl`        it has ended: a sealed trace, to be taken
`taken/<rollout>.<run>.jsonl`  somebody has taken it, and said that it is done with
`damaged/…`                    it ought to be sealed, and is not: something is missing in it
=============================  ======================================================================

Rules:

1. A file gets its name by a rename: nobody sees half of one.
2. Whoever takes a file holds its lock (flock), which the kernel takes from a process that ends in whatever way. So
   what is not done with is given back, with no time limit that would have to be guessed.
3. It is given whole or not at all: what a child is missing, the family is.
4. A lock counts only while the path leads to the locked file: another one may have been done with it meanwhile.
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
"""Bytes of a rollout's id in a file's name, of which there may be 255."""


def file_name(rollout: str, run: str) -> str:
    """The name of a rollout's file, without its ending: no other rollout has it."""
    return f"{quote(rollout, safe='')[:_LONGEST]}.{run}"


def family(trace: Trace) -> Iterator[Trace]:
    """All that is in the file of a trace: it, its children, and theirs."""
    yield trace
    for child in trace.children:
        yield from family(child)


def sealed_files(directory: Path) -> list[Path]:
    """The files that may be there to be taken, those first that have been there for longest, as far as the file
    system's clock tells.

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
            except FileNotFoundError:  # somebody was done with it just now
                continue


@final
class Claim:
    """A file that nobody else has. Made by `of` only."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd

    @classmethod
    def of(cls, path: Path) -> Claim | None:
        """A claim on the file; None: somebody else has it, or it is gone.

        Raises:
            OSError: it cannot be opened, or its file system has no locks.
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
        """It is done with: nobody is given it any more.

        Raises:
            OSError: it could not be moved, and is still claimed.
        """
        self._move(_TAKEN)

    def put_aside(self) -> Path:
        """It is of no use; where it is now.

        Raises:
            OSError: likewise.
        """
        return self._move(_DAMAGED)

    def give_back(self) -> None:
        """Somebody else may have it; and hears of it by the time of the directory."""
        self._close()
        with suppress(OSError):  # they look again anyway
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
                fcntl.flock(fd, fcntl.LOCK_UN)  # a process that was forked meanwhile would keep it
            os.close(fd)
