"""Write a directory of traces with one file for each rollout, and let only one process claim each file.

=============================  ======================================================================
path                           content
=============================  ======================================================================
`<rollout>.<run>.jsonl.open`   the rollout is running, or its program was killed; if `….jsonl` exists too,
                               the program was killed while it added a late score
`<rollout>.<run>.jsonl`        the rollout has ended: a sealed trace, free to be claimed
`taken/<rollout>.<run>.jsonl`  a process has claimed the trace and acknowledged it
`damaged/…`                    a trace without a complete seal: parts of it are missing
=============================  ======================================================================

Rules:

1. A file gets its final name by a rename when it is complete, so no process finds an incomplete file under a final
   name.
2. The process that has claimed a file locks it (flock). The kernel releases the lock when the process ends, for
   whatever reason. So an unacknowledged file becomes free again, and no time limit has to be guessed.
3. A file is read completely or not at all: if even the trace of one child rollout is incomplete, the whole file is
   moved to `damaged`.
4. A lock is valid only if the locked file is still at its path: another process may have moved the file after this
   process opened it.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

from .._util.checks import check_bool
from .entries import Entry, Score
from .jsonl import JSONLRecorder, Key, reference
from .trace import Trace
from .turn import ServiceCall, Turn

SEALED = ".jsonl"
OPEN = SEALED + ".open"
_TAKEN, _DAMAGED = "taken", "damaged"
_LONGEST = 120
"""Maximum bytes of a rollout's id in a file name. File systems allow 255 bytes for the whole name."""


def file_name(rollout: str, run: str) -> str:
    return f"{quote(rollout, safe='')[:_LONGEST]}.{run}"


def family(trace: Trace) -> Iterator[Trace]:
    yield trace
    for child in trace.children:
        yield from family(child)


def sealed_files(directory: Path) -> list[Path]:
    """Return the files of ended rollouts (`.jsonl`), which may be claimed, ordered by their modification times.

    Raises:
        OSError: the directory cannot be read.
    """
    ages: list[tuple[int, str]] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.name.endswith(SEALED) and entry.is_file():
                    ages.append((entry.stat().st_mtime_ns, entry.name))
    return [directory / name for _, name in sorted(ages)]


@final
class Claim:
    """A lock of this process on a file of traces, created by `Claim.of`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd

    @classmethod
    def of(cls, path: Path) -> Claim | None:
        """Lock a file, and return the claim. Return None if another process has the claim, or the file does not exist.

        Raises:
            OSError: the file cannot be opened, or its file system does not support locks.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        claim = cls(path, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return claim
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as exc:
            claim._close()
            exc.filename = str(path)
            raise
        claim._close()
        return None

    def acknowledge(self) -> None:
        """Move the file to `taken`, so that it cannot be claimed again.

        Raises:
            OSError: the file could not be moved. This process still has the claim.
        """
        self._move(_TAKEN)

    def put_aside(self) -> Path:
        """Move a damaged file to `damaged`, and return its new path.

        Raises:
            OSError: the file could not be moved. This process still has the claim.
        """
        return self._move(_DAMAGED)

    def give_back(self) -> None:
        """Release the lock.

        Also set the directory's modification time, by which other processes notice that a file is free.
        """
        self._close()
        with suppress(OSError):  # other lease holders also look again at intervals
            os.utime(self.path.parent)

    def _move(self, folder: str) -> Path:
        target = self.path.parent / folder / self.path.name
        target.parent.mkdir(exist_ok=True)
        os.rename(self.path, target)
        self.path = target
        self._close()
        return target

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)  # else a process forked meanwhile would keep the lock
            os.close(fd)


@final
class DirectoryRecorder:
    """Recorder that writes each rollout into a separate file in a directory, in the format of `JSONLRecorder`.

    When a rollout has ended, its file is renamed. From then on, `lease_traces` can lease the file to a trainer.

    A child rollout is recorded in the file of its parent, if this recorder records the parent too. So a trainer gets
    the traces of parent and children together. Any number of recorders, in one program or in several, may share a
    directory.

    Score a rollout (`rollout.score`) before the rollout's `async with` block ends. A later score can be written into
    the file only if no process has claimed the file yet.

    Args:
        directory: created if it does not exist; its parent directory must exist.
        fsync: if True, each line is forced to the disk.

    Closing: as for `JSONLRecorder`. The recorder has one open file descriptor for each open rollout. A killed program
    leaves files whose names end in `.open`; `read_traces` can read them.

    Raises:
        OSError: `aopen` raises it if the directory cannot be created. Methods that record raise it if the methods of
            `JSONLRecorder` would.
    """

    def __init__(self, directory: str | os.PathLike[str], *, fsync: bool = False) -> None:
        check_bool("fsync", fsync)
        self.directory: Path = Path(directory)
        self._fsync = fsync
        self._files: dict[Key, _File] = {}
        """File of each open rollout. For a child rollout, this is the file of its parent."""
        self._ended: dict[Key, tuple[_File, weakref.ref[Trace]]] = {}
        """File of each ended rollout that may still get a score, because the program holds the rollout's trace."""

    def __repr__(self) -> str:
        return f"DirectoryRecorder({str(self.directory)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(DirectoryRecorder, self.directory.absolute(), fsync=self._fsync), ()

    async def aopen(self) -> None:
        self.directory.mkdir(exist_ok=True)

    async def record_entry(self, entry: Entry) -> None:
        ended = self._ended.get((entry.rollout, entry.run))
        if isinstance(entry, Score) and ended is not None:
            await ended[0].add_late(entry)
        else:
            await self._file_of(entry).recorder.record_entry(entry)

    async def record(self, turn: Turn) -> None:
        await self._file_of(turn).recorder.record(turn)

    async def record_service(self, call: ServiceCall) -> None:
        await self._file_of(call).recorder.record_service(call)

    async def seal(self, trace: Trace) -> None:
        file = self._file_of(trace)
        is_root = file.root == (trace.rollout, trace.run)
        try:
            await file.recorder.seal(trace)
            if is_root:
                file.release()
        finally:
            if is_root:
                await file.recorder.aclose()
                for each in family(trace):  # only scores can follow
                    key = (each.rollout, each.run)
                    if self._files.pop(key, None) is not None:
                        self._ended[key] = (file, reference(self._ended, key, each))

    async def aclose(self) -> None:
        for file in set(self._files.values()):
            await file.recorder.aclose()

    def _file_of(self, entry: Entry | Turn | ServiceCall | Trace) -> _File:
        key = (entry.rollout, entry.run)
        if key not in self._files:
            branch = getattr(entry, "branch", None)
            parent = self._files.get((branch.rollout, branch.run)) if branch is not None else None
            self._files[key] = parent or _File(self.directory.absolute(), key, fsync=self._fsync)
        return self._files[key]


@final
class _File:
    """The file with the records of one rollout and its children."""

    def __init__(self, directory: Path, root: Key, *, fsync: bool) -> None:
        name = file_name(*root)
        self.root = root
        self._open, self._sealed = directory / f"{name}{OPEN}", directory / f"{name}{SEALED}"
        self.recorder = JSONLRecorder(self._open, fsync=fsync)

    def release(self) -> None:
        os.rename(self._open, self._sealed)

    async def add_late(self, score: Score) -> None:
        """Add a score to the file of an ended rollout.

        Raises:
            RuntimeError: another process has claimed the file, or the file does not exist.
        """
        claim = Claim.of(self._sealed)
        if claim is None:
            raise RuntimeError(
                f"the score was not recorded, because the trace of rollout {score.rollout} is no longer in "
                f"{self._sealed.parent}, or was never sealed: give a rollout its scores before its block ends"
            )
        try:
            with self._under_its_first_name():
                await self.recorder.record_entry(score)
        finally:
            claim.give_back()

    @contextmanager
    def _under_its_first_name(self) -> Iterator[None]:
        """During the `with` block, give the file its first name again, which ends in `.open`.

        The recorder writes to the file of this name. If the file system has hard links, the file also keeps its final
        name, so that it can be claimed even if the program is killed in the block.
        """
        linked = True
        try:
            os.link(self._sealed, self._open)
        except OSError:  # a file system without links
            os.rename(self._sealed, self._open)
            linked = False
        try:
            yield
        finally:
            if linked:
                os.unlink(self._open)
            else:
                os.rename(self._open, self._sealed)
