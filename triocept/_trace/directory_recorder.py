"""The recorder that gives each rollout a file of its own; where that lies is in `directory`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, final

from .._util.checks import check_bool
from .directory import OPEN, SEALED, Claim, family, file_name
from .entries import Entry, Score
from .jsonl import JSONLRecorder
from .service import ServiceCall
from .trace import Trace
from .turn import Turn

_Key: TypeAlias = tuple[str, str]


@final
class DirectoryRecorder:
    """Writes each rollout into a file of its own in a directory, as `JSONLRecorder` does.

    When the rollout has ended the file gets another name, and from then on `lease_traces` gives it to a trainer.

    What becomes of a child rollout stands in the file of its parent, if that is recorded here too: a trainer gets the
    whole family at once. Any number of recorders, in one program or in several, may share a directory.

    Give a rollout its scores before its block ends. A later one is written into its file all the same, unless somebody
    has taken that already.

    Args:
        directory: it is made if it is not there; the one that it is in must exist.
        fsync: whether each line is forced to the disk.

    Closing: as of `JSONLRecorder`, it holds a descriptor for each rollout that is open. What a program that was killed
    has left ends in `.open`, and `read_traces` reads it.

    Raises:
        OSError: from `aopen`: there can be no such directory. Else as of `JSONLRecorder`.
    """

    def __init__(self, directory: str | os.PathLike[str], *, fsync: bool = False) -> None:
        check_bool("fsync", fsync)
        self.directory: Path = Path(directory)
        self._fsync = fsync
        self._files: dict[_Key, _File] = {}
        """By rollout: those that are open, and the children of those, which are in the same."""
        self._ended: dict[_Key, tuple[_File, weakref.ref[Trace]]] = {}
        """Those that may still get a score: the ones whose traces somebody has."""

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
                self._end(file, trace)

    def _end(self, file: _File, trace: Trace) -> None:
        """Nothing of the rollout and its children is to come, but for scores."""
        for each in family(trace):
            key = (each.rollout, each.run)
            if self._files.pop(key, None) is not None:
                self._ended[key] = (file, weakref.ref(each, partial(self._forget, key)))

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

    def _forget(self, key: _Key, gone: object) -> None:
        """Nobody has the trace any more: no score can come."""
        if key in self._ended and self._ended[key][1] is gone:
            del self._ended[key]


@final
class _File:
    """The file of a rollout and its children."""

    def __init__(self, directory: Path, root: _Key, *, fsync: bool) -> None:
        name = file_name(*root)
        self.root = root
        self._open, self._sealed = directory / f"{name}{OPEN}", directory / f"{name}{SEALED}"
        self.recorder = JSONLRecorder(self._open, fsync=fsync)

    def release(self) -> None:
        """Its rollout has ended: it can be taken."""
        os.rename(self._open, self._sealed)

    async def add_late(self, score: Score) -> None:
        """Add a score, while nobody can take it.

        Raises:
            RuntimeError: somebody has, or it is not there.
        """
        claim = Claim.of(self._sealed)
        if claim is None:
            raise RuntimeError(
                f"the trace of rollout {score.rollout} was taken from {self._sealed.parent} already, or never got "
                f"there: give it its scores before its block ends"
            )
        try:
            with self._under_its_first_name():
                await self.recorder.record_entry(score)
        finally:
            claim.give_back()

    @contextmanager
    def _under_its_first_name(self) -> Iterator[None]:
        """Its recorder knows it by that. It keeps the other one, too: else a program that is killed here loses it."""
        try:
            os.link(self._sealed, self._open)
        except OSError:  # a file system without links
            os.rename(self._sealed, self._open)
            try:
                yield
            finally:
                os.rename(self._open, self._sealed)
        else:
            try:
                yield
            finally:
                os.unlink(self._open)
