"""The recorder that gives each rollout a file of its own; `directory` describes the paths."""

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
    """Recorder that writes each rollout into a file of its own in a directory, as `JSONLRecorder` does.

    When the rollout has ended, the file is renamed, and `lease_traces` can give it to a trainer.

    A child rollout is recorded in the file of its parent, if the parent is recorded here too: a trainer gets the whole
    family at once. Any number of recorders, in one program or in several, may share a directory.

    Give a rollout its scores before its block ends. A later score is still written into the file, unless a holder has
    already claimed the file.

    Args:
        directory: created if it does not exist; its parent directory must exist.
        fsync: True forces each line to the disk.

    Closing: as for `JSONLRecorder`: it holds a descriptor for each open rollout. A file left by a killed program ends
    in `.open`, and `read_traces` reads it.

    Raises:
        OSError: from `aopen`: the directory cannot be created. Else as for `JSONLRecorder`.
    """

    def __init__(self, directory: str | os.PathLike[str], *, fsync: bool = False) -> None:
        check_bool("fsync", fsync)
        self.directory: Path = Path(directory)
        self._fsync = fsync
        self._files: dict[_Key, _File] = {}
        """Files of open rollouts and their children, by rollout; children share the file of their parent."""
        self._ended: dict[_Key, tuple[_File, weakref.ref[Trace]]] = {}
        """Ended rollouts that may still get a score, because the program holds their traces."""

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
        """Mark a rollout and its children as ended: only scores can follow."""
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
        """Forget a rollout whose trace was deleted: no score can follow."""
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
        """Rename the file of an ended rollout, so that it can be claimed."""
        os.rename(self._open, self._sealed)

    async def add_late(self, score: Score) -> None:
        """Add a score, unless the file is claimed.

        Raises:
            RuntimeError: a holder has claimed the file, or it does not exist.
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
        """Link the file under the name that its recorder uses. It also keeps the new name: else a program killed here
        would lose the file."""
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
