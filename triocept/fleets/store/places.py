"""Read the traces of one result of a store from the store's files, at each access, so that they need no memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, final, overload

from ..._trace.lines import lines_between
from ..._trace.reader import TraceReader
from ..._trace.trace import Trace
from ...errors import DialectError, StoreError
from .layout import unsafe
from .lines import TracePlace

_HEAD = 400
"""Maximum number of bytes, at the start of a line, that are searched for the line's `rollout` and `run`."""

_CHUNK = 1024 * 1024


@final
class StoredTraces(Sequence[Trace]):
    """The traces of a stored result, read from disk on each access. Made by a store only.

    Only the files and byte offsets of the traces are kept in memory. If a program uses a trace twice, it should keep a
    reference to the trace. Each access raises `StoreError` if the file is missing, and `OSError` if it cannot be read.
    In a damaged trace, `Trace.gaps` lists the missing parts.
    """

    def __init__(self, folder: Path, places: tuple[TracePlace, ...], key: str) -> None:
        self._folder = folder
        self._key = key
        """Key of the result."""
        self.places: tuple[TracePlace, ...] = places
        """For each trace, in order: its file and the byte offsets of its lines."""

    @property
    def store(self) -> Path:
        """Directory of the store."""
        return self._folder.parent

    def __repr__(self) -> str:
        return f"<StoredTraces: {len(self.places)} in {os.fspath(self._folder)}>"

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self._read())

    @overload
    def __getitem__(self, which: int) -> Trace: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[Trace]: ...
    def __getitem__(self, which: int | slice) -> Trace | Sequence[Trace]:
        if isinstance(which, slice):
            return StoredTraces(self._folder, self.places[which], self._key)
        self.places[which]
        return self._read()[which]  # reads all traces, because a child is found through its parent

    def _read(self) -> list[Trace]:
        try:
            return read_places(self._folder, self.places)
        except FileNotFoundError as exc:
            raise StoreError(
                f"the file with the traces of the result {self._key!r} is missing: run `triocept check` on the store",
                path=os.fspath(exc.filename),
            ) from None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredTraces):
            return (self._folder, self.places) == (other._folder, other.places)
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._folder, self.places))


def read_places(folder: Path, places: Sequence[TracePlace]) -> list[Trace]:
    """Read the traces at `places` from the files in `folder`, and return them in the same order.

    A child rollout's trace is also in `children` of its parent's trace.
    """
    found: dict[tuple[str, str], Trace] = {}
    for name in dict.fromkeys(place.file for place in places):
        path, in_file = folder / name, [place for place in places if place.file == name]
        if reason := unsafe(path, folder.parent):
            raise StoreError(f"this file should hold the traces of a result, but it {reason}", path=str(path))
        ranges: list[tuple[int, int]] = []  # sorted and merged, so that each byte is read once
        for begin, end in sorted(
            pair for place in in_file for pair in place.ranges or [(place.begin, place.end)]
        ):
            if ranges and begin <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            else:
                ranges.append((begin, end))
        with open(path, "rb") as file:
            damages: list[DialectError] = []
            traces = _read(file, path, in_file, ranges, 0, damages.append)
            if damages or any(trace.gaps for trace in traces):
                # The numbers of damaged lines require a count of all lines before them.
                begin = min(place.begin for place in in_file)
                file.seek(0)
                before, left = 0, begin
                while left and (data := file.read(min(left, _CHUNK))):
                    before += data.count(b"\n")
                    left -= len(data)
                whole = [(begin, max(place.end for place in in_file))]
                traces = _read(file, path, in_file, whole, before, _warn)
        found |= {(trace.rollout, trace.run): trace for trace in traces}
    for place in places:
        found.setdefault((place.rollout, place.run), Trace(place.rollout, run=place.run))
    return [found[place.rollout, place.run] for place in places]


def _read(
    file: BinaryIO,
    path: Path,
    places: list[TracePlace],
    ranges: list[tuple[int, int]],
    number: int,
    on_damage: Callable[[DialectError], object],
) -> list[Trace]:
    """Read the byte `ranges` of `file`, and return the traces at `places`. `number` lines precede the ranges."""
    runs = [f'"run":"{place.run}"'.encode() for place in places]
    reader = TraceReader(path, on_damage)
    for line, data in enumerate(_lines_in(file, ranges), number + 1):
        head = data[:_HEAD]
        if any(run in head for run in runs):
            for piece in lines_between(data):
                reader.add(piece, line)
    return reader.end()


def _lines_in(file: BinaryIO, ranges: list[tuple[int, int]]) -> Iterator[bytes]:
    for at, end in ranges:
        file.seek(at)
        while at < end and (data := file.readline()):
            at += len(data)
            yield data


def _warn(damage: DialectError) -> None:
    warnings.warn(str(damage), stacklevel=5)
