"""The traces in a file, one after the other, while the file is read; or while it is written."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from functools import partial
from typing import BinaryIO, final

import trio

from ._checks import check_bool
from ._trace.format1 import Line1
from ._trace.found_lines import Found, lines_between
from ._trace.lines import Line, ScoreLine, SealLine
from ._trace.reader import TraceReader, iter_file, key_of, score_of
from ._trace.trace import Trace, TraceWriter
from .errors import DialectError

__all__ = ["TraceStream", "iter_traces"]

INTERVAL = 0.1
"""Seconds between two looks at a file that is followed."""
_CHUNK = 1024 * 1024
_END = object()


def iter_traces(
    path: str | os.PathLike[str],
    *,
    follow: bool = False,
    on_damage: Callable[[DialectError], object] | None = None,
) -> TraceStream:
    """The traces in a file of `JSONLRecorder`, one after the other, in the order in which they end.

    Take them with `for`; or with `async for` in a trio program, which is held up by no read.

    In memory are those that have begun in the file and are not at their end yet. A child comes before its parent, and
    is among its `children` too. Traces of format 1 come at the end of the file, all at once.

    Args:
        path: the file.
        follow: go on at the file's end, and wait for what is written: each trace comes with its seal, as soon as that
            is there, and it does not end. A score that comes behind the seal is added to the trace that was given, if
            somebody still has it. A file that is not there yet is waited for. One that is moved away is read to its
            end first; what the path leads to then is read from its head, and so is a file that was cut off. Without
            it, each trace comes with all its scores, and those without a seal come at the end.
        on_damage: as of `read_traces`.

    Raises:
        OSError: while iterating: the file cannot be read.
        DialectError: while iterating: a line is of a newer triocept; or the file is at its end, no line of it was ours,
            and no `on_damage` was told. The path is `file:line`.

    Cancellation: of `async for`, at once; nothing is lost but the place in the file.
    """
    check_bool("follow", follow)
    return TraceStream(path, follow=follow, on_damage=on_damage)


@final
class TraceStream:
    """Traces, one after the other. Made by `iter_traces`. Each iteration begins at the head of the file."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        follow: bool,
        on_damage: Callable[[DialectError], object] | None,
    ) -> None:
        self._path = path
        self._follow = follow
        self._on_damage = on_damage

    def __repr__(self) -> str:
        return f"<TraceStream of {os.fspath(self._path)}{', followed' if self._follow else ''}>"

    def __iter__(self) -> Iterator[Trace]:
        if not self._follow:
            yield from iter_file(self._path, self._on_damage)
            return
        with closing(_Tail(self._path, self._on_damage or _warn)) as tail:
            while True:
                yield from (found := tail.look())
                if not found:
                    time.sleep(INTERVAL)

    async def __aiter__(self) -> AsyncIterator[Trace]:
        if self._follow:
            with closing(_Tail(self._path, self._on_damage or _warn)) as tail:
                while True:
                    found = await trio.to_thread.run_sync(tail.look)
                    for trace in found:
                        yield trace
                    if not found:
                        await trio.sleep(INTERVAL)
        traces = iter_file(self._path, self._on_damage)
        while (trace := await trio.to_thread.run_sync(partial(next, traces, _END))) is not _END:
            assert isinstance(trace, Trace)
            yield trace


class _Tail:
    """A file that grows, and what was read of it so far. It is kept open: one that is moved away is read to its end."""

    def __init__(self, path: str | os.PathLike[str], on_damage: Callable[[DialectError], object]) -> None:
        self._path = path
        self._on_damage = on_damage
        self._file: BinaryIO | None = None

    def look(self) -> list[Trace]:
        """The traces that have ended since the last look: none, where the file has come to its end first."""
        moved = self._is_elsewhere()  # before the rest is read: nothing comes behind that
        if traces := self._read():
            return traces
        if moved:
            self.close()
            try:
                self._file = open(self._path, "rb")  # noqa: SIM115 - it is closed by `close`
            except FileNotFoundError:
                return []
        if moved or self._is_cut():
            self._begin()
        return self._read()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _is_elsewhere(self) -> bool:
        """Whether the path leads to another file than the open one."""
        if self._file is None:
            return True
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:  # the next one is not there yet
            return False

    def _is_cut(self) -> bool:
        return self._file is not None and os.fstat(self._file.fileno()).st_size < self._at

    def _read(self) -> list[Trace]:
        """The next traces of the open file."""
        while self._file is not None and (data := self._file.read(_CHUNK)):
            self._at += len(data)
            if traces := self._take(data):
                return traces
        return []

    def _begin(self) -> None:
        if self._file is not None:
            self._file.seek(0)
        self._at = self._number = 0
        self._rest: list[bytes] = []
        """Of a line that has no end yet."""
        self._reader = TraceReader(self._path, self._on_damage)
        self._given: dict[tuple[str, str], weakref.ref[Trace]] = {}

    def _take(self, data: bytes) -> list[Trace]:
        first, *others = data.split(b"\n")
        self._rest.append(first)
        if not others:
            return []
        *lines, rest = [b"".join(self._rest), *others]
        self._rest = [rest]
        return [trace for line in lines for trace in self._take_line(line)]

    def _take_line(self, line: bytes) -> Iterator[Trace]:
        self._number += 1
        for piece in lines_between(line + b"\n"):
            if isinstance(piece, Found) and not isinstance(piece.line, Line1):
                if (known := self._given.get(key := key_of(piece.line))) is not None:
                    self._add_late(piece.line, known())
                    continue
                self._reader.add(piece, self._number)
                if isinstance(piece.line, SealLine) and (trace := self._reader.give(key)) is not None:
                    self._given[key] = weakref.ref(trace)
                    yield trace
            else:
                self._reader.add(piece, self._number)

    def _add_late(self, line: Line, trace: Trace | None) -> None:
        """What stands behind a seal, for whoever still has the trace."""
        if isinstance(line, ScoreLine) and trace is not None:
            TraceWriter(trace).add(score_of(line))


def _warn(damage: DialectError) -> None:
    warnings.warn(str(damage), stacklevel=4)
