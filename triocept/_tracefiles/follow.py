"""The traces in a file, one after the other, while the file is read; or while it is written."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from io import FileIO
from typing import final

import trio

from .._trace.found_lines import Found, lines_between
from .._trace.lines import Line, ScoreLine, SealLine
from .._trace.reader import TraceReader, iter_file, key_of, score_of
from .._trace.trace import Trace, TraceWriter
from .._util.checks import check_bool
from ..errors import DialectError

INTERVAL = 0.1
"""Seconds between two looks at a file that is followed."""
_CHUNK = 1024 * 1024
_HEAD = 256
"""Bytes of a line that tell it from any other: its run, its number and the chain so far are among them."""


def iter_traces(
    path: str | os.PathLike[str],
    *,
    follow: bool = False,
    on_damage: Callable[[DialectError], object] | None = None,
) -> TraceStream:
    """The traces in a file of `JSONLRecorder`, one after the other, in the order in which they end.

    Take them with `for`; or with `async for` in a trio program, which is held up by no read.

    In memory are those that have begun in the file and are not at their end yet. A child comes before its parent, and
    is among its `children` too.

    Args:
        path: the file.
        follow: go on at the file's end, and wait for what is written: each trace comes with its seal, as soon as that
            is there, and it does not end. A score that comes behind the seal is added to the trace that was given, if
            somebody still has it. A file that is not there yet is waited for. One that is moved away is read to its
            end first; what the path leads to then is read from its head, and so is a file that was cut off, though it
            may have grown since. Without it, each trace comes with all its scores, and those without a seal come at
            the end.
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

    # What is to be warned of is told from the frame of the iteration: above it is the caller's line.

    def __iter__(self) -> Iterator[Trace]:
        words: list[str] = []
        if self._follow:
            with closing(self._tail(words)) as tail:
                while True:
                    found = tail.look()
                    _warn(words)
                    yield from found
                    if not found:
                        time.sleep(INTERVAL)
        with closing(iter_file(self._path, self._on_damage, words.append)) as traces:
            while True:
                try:
                    trace = _next(traces)
                finally:
                    _warn(words)
                if trace is None:
                    return
                yield trace

    async def __aiter__(self) -> AsyncIterator[Trace]:
        words: list[str] = []
        if self._follow:
            with closing(self._tail(words)) as tail:
                while True:
                    found = await trio.to_thread.run_sync(tail.look)
                    _warn(words)
                    for trace in found:
                        yield trace
                    if not found:
                        await trio.sleep(INTERVAL)
        with closing(iter_file(self._path, self._on_damage, words.append)) as traces:
            while True:
                try:
                    ended = await trio.to_thread.run_sync(_next, traces)
                finally:
                    _warn(words)
                if ended is None:
                    return
                yield ended

    def _tail(self, words: list[str]) -> _Tail:
        return _Tail(self._path, self._on_damage or (lambda damage: words.append(str(damage))))


def _next(traces: Iterator[Trace]) -> Trace | None:
    return next(traces, None)


def _warn(words: list[str]) -> None:
    """Warn of what has been found, in the name of whoever iterates."""
    told = words[:]
    words.clear()
    for text in told:
        warnings.warn(text, stacklevel=3)


@final
class _Tail:
    """A file that grows, and what was read of it so far. It is kept open: one that is moved away is read to its end.
    It is not buffered: what was read before it was cut off must not come again."""

    def __init__(self, path: str | os.PathLike[str], on_damage: Callable[[DialectError], object]) -> None:
        self._path = path
        self._on_damage = on_damage
        self._file: FileIO | None = None

    def look(self) -> list[Trace]:
        """The traces that have ended since the last look: none, where the file has come to its end first."""
        moved = self._is_elsewhere()  # before the rest is read: nothing comes behind that
        if (traces := self._read()) or not moved:
            return traces
        self.close()
        try:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        except FileNotFoundError:
            return []
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
        """Whether what was read of the open file is not in it any more: it was cut off, and may have grown since."""
        assert self._file is not None
        number = self._file.fileno()
        if os.fstat(number).st_size < self._at + len(self._part):
            return True
        begin, head = self._latest
        return any(
            os.pread(number, len(data), at) != data
            for at, data in ((begin, head), (self._at, self._part))
            if data
        )

    def _read(self) -> list[Trace]:
        """The next traces of the open file."""
        while self._file is not None:
            data = self._file.read(_CHUNK)
            if self._is_cut():  # looked for behind the read: what was read may be of either
                self._begin()
            elif not data:
                break
            elif traces := self._take(data):
                return traces
        return []

    def _begin(self) -> None:
        if self._file is not None:
            self._file.seek(0)
        self._number = 0
        self._latest = (0, b"")
        """Where the latest whole line begins, and with what."""
        self._at = 0
        """Where it ends."""
        self._part = b""
        """With what a line begins that has no end yet."""
        self._rest: list[bytes] = []
        """All that is there of it."""
        self._reader = TraceReader(self._path, self._on_damage)
        self._given: dict[tuple[str, str], weakref.ref[Trace]] = {}

    def _take(self, data: bytes) -> list[Trace]:
        first, *others = data.split(b"\n")
        self._rest.append(first)
        if others:
            *lines, rest = [b"".join(self._rest), *others]
            self._rest, self._part = [rest], b""
            self._at += sum(map(len, lines)) + len(lines)
            self._latest = (self._at - len(lines[-1]) - 1, lines[-1][:_HEAD])
        else:
            lines, rest = [], first
        self._part = (self._part + rest[:_HEAD])[:_HEAD]
        return [trace for line in lines for trace in self._take_line(line)]

    def _take_line(self, line: bytes) -> Iterator[Trace]:
        self._number += 1
        for piece in lines_between(line + b"\n"):
            if isinstance(piece, Found):
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
