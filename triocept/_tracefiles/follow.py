"""Iterate over the traces in a trace file, which may be complete or still being written."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing, suppress
from io import FileIO
from typing import final

import trio

from .._canonical.price import Price
from .._trace.entries import Intent
from .._trace.lines import Found, IntentLine, Line, OtherLine, ScoreLine, SealLine, lines_between
from .._trace.reader import TraceReader, iter_file, key_of, score_of
from .._trace.trace import Trace, TraceWriter
from .._util.checks import check_bool
from ..errors import DialectError

INTERVAL = 0.1
"""Seconds between two attempts to read new lines of a followed file."""
_CHUNK = 1024 * 1024
_HEAD = 256
"""Number of bytes from the start of the latest line that are kept. These bytes identify the file, because the bytes
contain the line's run, number and chain."""


def iter_traces(
    path: str | os.PathLike[str],
    *,
    follow: bool = False,
    on_damage: Callable[[DialectError], object] | None = None,
) -> TraceStream:
    """Return an iterable of the traces in a file of `JSONLRecorder`, in the order in which the traces end.

    Iterate with `for`, or, in a trio program, with `async for`, which reads the file in a thread.

    The iteration keeps only unfinished traces in memory: traces that have begun, but not ended, at the current position
    in the file. A child's trace is yielded before its parent's trace, and is also in the parent's `children`.

    Args:
        path: the file.
        follow: if True, the iteration does not end. At the end of the file, the iteration waits for new lines. If the
            file does not exist, the iteration waits for the file. Each trace is yielded as soon as its seal is in the
            file. A score after the seal is added to the yielded trace, if the program still holds this object. If the
            file is moved away, the file is read to its end; then the file that is now at `path` is read from its
            beginning. A truncated file is also read from its beginning, even if the file has grown since. If `follow`
            is False, each trace is yielded with all its scores, and traces without a seal are yielded last.
        on_damage: as in `read_traces`.

    Raises:
        OSError: during the iteration, if the file cannot be read.
        DialectError: during the iteration, if a newer triocept wrote a line, or if `on_damage` is None and the file
            contains no readable line. The error's path is `file:line`.

    Cancellation: `async for` ends at once. A new iteration begins at the start of the file.
    """
    check_bool("follow", follow)
    return TraceStream(path, follow=follow, on_damage=on_damage)


@final
class TraceStream:
    """An iterable of the traces in a file, made by `iter_traces`. Each iteration begins at the start of the file."""

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

    # Warnings are issued from the frame of the iteration: the caller's line is directly above it.

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

    def _tail(self, words: list[str]) -> GrowingTraces:
        return GrowingTraces(self._path, self._on_damage or (lambda damage: words.append(str(damage))))


def _next(traces: Iterator[Trace]) -> Trace | None:
    return next(traces, None)


def _warn(words: list[str]) -> None:
    """Issue the warnings `words`, and clear the list.

    Each warning names, as its origin, the line of the user's code that iterates.
    """
    texts = words[:]
    words.clear()
    for text in texts:
        warnings.warn(text, stacklevel=3)


@final
class GrowingTraces:
    """Reader of the traces in a file that may grow.

    Args:
        path: the file.
        on_damage: function that is called with an error for each line that is unreadable, or that cannot follow the
            lines before it.
        prices: prices by model name, from which the traces compute their `cost`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        on_damage: Callable[[DialectError], object],
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        self._path = path
        self._on_damage = on_damage
        self._prices = prices
        tail = _Tail(path, self._begin)
        self.read = tail.read
        """Function that returns the lines that were added to the file since the function was last called. The function
        may be called in a thread."""
        self.close = tail.close
        self._begin()

    def look(self) -> list[Trace]:
        """Read added lines until a line ends a trace. Return the traces that have ended.

        Return an empty list if no added line ends a trace.
        """
        while lines := self.read():
            found = [each for line in lines for each in self.take(line)]
            if traces := [trace for line, trace in found if isinstance(line, SealLine)]:
                return traces
        return []

    def take(self, data: bytes) -> Iterator[tuple[Line | OtherLine, Trace]]:
        """Process the bytes of one line. Yield the line and its trace.

        After the seal of a rollout, yield only the rollout's scores.

        Raises:
            DialectError: a newer triocept wrote the line.
        """
        self._number += 1
        for piece in lines_between(data + b"\n"):
            if not isinstance(piece, Found):
                self._reader.add(piece, self._number)
                continue
            line = piece.line
            if (known := self._given.get(key := key_of(line))) is not None:
                # The line follows a seal. Add it to its trace, if the program still holds the trace.
                if isinstance(line, ScoreLine) and (given := known()) is not None:
                    TraceWriter(given).add(score_of(line))
                    yield line, given
                continue
            self._reader.add(piece, self._number)
            if isinstance(line, SealLine):
                trace = self._reader.give(key)
                assert trace is not None
                self._given[key] = weakref.ref(trace)
            else:
                trace = self._reader.trace(key)
            yield line, trace

    def intent(self, line: IntentLine) -> Intent | None:
        """Return the intent in `line`, a line that was added to the file.

        Return None if the file lacks a part of the call's request. Call this method before the turn of this call is
        read from the file.
        """
        return self._reader.intent(key_of(line), line.call)

    def _begin(self) -> None:
        self._number = 0
        self._reader = TraceReader(self._path, self._on_damage, self._prices)
        self._given: dict[tuple[str, str], weakref.ref[Trace]] = {}


@final
class _Tail:
    """A file that may grow, with the position up to which the file was read.

    The file stays open, so that it is read to its end even if it is moved away. The file is opened without a buffer,
    because a buffer could still contain bytes that were removed by a truncation. `begin` is called whenever the file is
    read from its beginning.
    """

    def __init__(self, path: str | os.PathLike[str], begin: Callable[[], object]) -> None:
        self._path = path
        self._on_begin = begin
        self._file: FileIO | None = None

    def read(self) -> list[bytes]:
        """Return the complete lines that were added since the last call; an empty list if no line was added."""
        moved = self._file is None
        if self._file is not None:  # checked before the rest is read: afterwards nothing is appended
            with suppress(FileNotFoundError):  # the next file does not exist yet
                moved = not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        if (lines := self._read()) or not moved:
            return lines
        self.close()
        try:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        except FileNotFoundError:
            return []
        self._begin()
        return self._read()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _is_cut(self) -> bool:
        """Return True if the file was truncated, so that the file no longer contains the lines that were read."""
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

    def _read(self) -> list[bytes]:
        """Return the next complete lines of the open file; an empty list at the file's end."""
        while self._file is not None:
            data = self._file.read(_CHUNK)
            if self._is_cut():  # checked after the read: the data may be from before or after the cut
                self._begin()
            elif not data:
                break
            elif lines := self._take(data):
                return lines
        return []

    def _begin(self) -> None:
        if self._file is not None:
            self._file.seek(0)
        self._latest = (0, b"")
        """Offset and first bytes of the latest complete line."""
        self._at = 0
        """Offset of the first byte after the latest complete line."""
        self._part = b""
        """First bytes of the last line if this line is incomplete; otherwise empty."""
        self._rest: list[bytes] = []
        """The pieces of the last line if this line is incomplete; otherwise empty."""
        self._on_begin()

    def _take(self, data: bytes) -> list[bytes]:
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
        return lines
