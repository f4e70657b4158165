"""The lines in the bytes of a file, whole or damaged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, TypeAlias

import msgspec

from .lines import VERSION, Line, OtherLine

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions of msgspec for bytes that are not JSON of the type: the last two are built-in exceptions."""


class Unreadable(msgspec.Struct, frozen=True):
    """Bytes that are not a line of this format."""

    why: str
    version: int = 0
    """Version of a line for another triocept; 0 for any other bytes."""
    cut: bool = False
    """True at the very end without a newline: a program was killed during a write, or is still writing."""


class Found(msgspec.Struct, frozen=True):
    """A readable line."""

    line: Line | OtherLine
    data: memoryview
    """Bytes of the line, without its newline: the chain covers these bytes."""


Piece: TypeAlias = Found | Unreadable

_START = re.compile(rb'\{"type":"(?:open|agent|blob|intent|turn|service|score|seal)","version":\d')
"""Start of every line. In a JSON string its quotes would be escaped."""
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_other_decoder = msgspec.json.Decoder(OtherLine)
_FORMAT_1 = re.compile(rb'\{"type":"(?:turn|service|seal)","version":1[,}]')
"""Start of every line of format 1."""


class _Versioned(msgspec.Struct, frozen=True):
    version: int


_version_decoder = msgspec.json.Decoder(_Versioned)


def found_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, Piece]]:
    """Yield the content of a file, each piece with its line number, from 1.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        yield from lines_in(file)


def lines_in(file: BinaryIO, size: int | None = None) -> Iterator[tuple[int, Piece]]:
    """Yield the content of an open file from its beginning; with `size`, of the first `size` bytes only, as it may
    grow."""
    left = size
    for number, data in enumerate(file, 1):
        if left is not None:
            data, left = data[:left], max(left - len(data), 0)
        for piece in lines_between(data):
            yield number, piece
        if left == 0:
            return


def lines_between(data: bytes) -> Iterator[Piece]:
    """Yield the content between two newlines: a line, or unreadable bytes.

    A program killed in the middle of a line leaves the first part of that line; directly behind it stands the next
    line, from another program. An empty line yields nothing.
    """
    body = memoryview(data)[: -1 if data.endswith(b"\n") else None]
    if not data.strip():
        return
    try:
        yield Found(_decoded(body), body)
    except msgspec.DecodeError as exc:
        yield from _run_together(body, exc, cut=len(body) == len(data))


def _run_together(data: memoryview, exc: msgspec.DecodeError, *, cut: bool) -> Iterator[Piece]:
    """Yield the unreadable bytes, then the lines that end the data."""
    pieces: list[Piece] = []
    end = len(data)
    for start in (*reversed([found.start() for found in _START.finditer(data, 1)]), 0):
        try:
            pieces.append(Found(_decoded(data[start:end]), data[start:end]))
            end = start
        except msgspec.DecodeError as why:
            exc = why
    if end:
        version = _version_of(data[:end])
        is_other = version > VERSION or _FORMAT_1.match(data) is not None
        yield Unreadable(str(exc), version if is_other else 0, cut=cut and not pieces)
    yield from reversed(pieces)


def _decoded(data: memoryview) -> Line | OtherLine:
    try:
        version = _version_of(data)
        if version == VERSION:
            return _decoded_line(data)
    except (UnicodeDecodeError, RecursionError) as exc:
        raise msgspec.DecodeError(str(exc)) from exc
    raise msgspec.DecodeError(f"of version {version}" if version else "it does not begin as one of ours")


def _decoded_line(data: memoryview) -> Line | OtherLine:
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as exc:
        try:
            return msgspec.structs.replace(_other_decoder.decode(data), why=str(exc))
        except msgspec.DecodeError:
            raise exc from None


def _version_of(data: memoryview) -> int:
    """Return the version of a line; 0 if the bytes are not a line."""
    if (match := _HEAD.match(data)) is not None:
        return int(match[1])
    try:
        return _version_decoder.decode(data).version
    except BROKEN:
        return 0


def other_version(version: int) -> str:
    """Return the error text for a line of a version that this triocept does not read."""
    if version < VERSION:
        return f"written in format {version}: triocept 0.2.0 reads it, and later versions do not"
    return f"written by a newer triocept (version {version})"


_HEAD = re.compile(rb'\{"type":"[a-z]+","version":(\d{1,9})[,}]')
