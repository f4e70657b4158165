"""`done.jsonl`: one JSON object a line, for each task (and sample of its group) that has its outcome.

A task that was run again, because it ended with an error and `retry_errors` was said, has a line more: the last one
counts.

Rules:

1. A line is written by the driver that has the lock, with one `write`, before anybody is given the result. A line that
   could be written only in part is taken back.
2. What stands behind the last newline is no line: whoever has the lock cuts it off, and whoever reads leaves it.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias, final

import msgspec

from ...errors import StoreError

OutcomeWord: TypeAlias = Literal["value", "error", "stopped"]
"""`stopped`: the sample's group was."""

log: logging.Logger = logging.getLogger("triocept.fleet")


class TracePlace(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Where a trace is: its lines, among those of others."""

    rollout: str
    """The id of its rollout."""
    run: str
    """As of `Trace.run`."""
    file: str
    """The name of the file in the store's `traces`."""
    begin: int
    """Where its first line begins there: bytes from the head."""
    end: int
    """Where the last of those ends that there were when its task had its outcome; a score may come later."""
    ranges: tuple[tuple[int, int], ...] = ()
    """From where to where its lines are, if lines of other traces are between them. Empty: from `begin` to `end`."""
    digest: str | None = None
    """As of `Trace.digest`; None: its rollout was open yet."""


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a function raised."""

    type: str
    """`myproject.errors.Odd`."""
    message: str
    traceback: str = ""


class DoneLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task that has its outcome."""

    key: str
    sample: int = 0
    group: int | None = None
    outcome: OutcomeWord
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: ErrorLine | None = None
    number: int
    attempt: int
    worker: str
    at: float
    """When it was written: seconds since the epoch."""
    scores: dict[str, float] = {}
    traces: tuple[TracePlace, ...] = ()
    digest: str | None = None
    """Of the task, where that is to be compared."""
    task: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Where it is JSON."""


class LostLine(msgspec.Struct, frozen=True, kw_only=True):
    """A task, or a sample of its group, that is `Outcome.Lost`. It is not done."""

    key: str
    sample: int
    attempt: int
    worker: str
    reason: str
    """How its worker ended."""
    beside: tuple[int, ...]
    """As of `Lost.beside`."""
    at: float
    """When it was written: seconds since the epoch."""


class Done(msgspec.Struct, frozen=True, gc=False):
    """What is known of a task that has its outcome, while others run."""

    offset: int
    """Where its line begins."""
    is_error: bool
    digest: str | None


_line = msgspec.json.Decoder(DoneLine)
_lost = msgspec.json.Decoder(LostLine)
_encode = msgspec.json.Encoder().encode


def index_of(
    path: Path, on_damage: Callable[[int, str], object] | None = None
) -> tuple[dict[tuple[str, int], Done], int]:
    """The last line of each (key, sample), and where the whole lines end.

    Args:
        on_damage: is told the number of each line that cannot be read, and why.

    Raises:
        StoreError: a line cannot be read, and nobody wants to be told; the text names it.
        OSError: the file cannot be read.
    """
    found: dict[tuple[str, int], Done] = {}
    end = 0
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; only the opening may find none
    except FileNotFoundError:
        return found, 0
    with file:
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):
                break
            try:
                line = _whole(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                if on_damage is None:
                    raise StoreError(
                        f"it is no line of a store: {exc}; take it out, and its task runs again",
                        path=f"{path}:{number}",
                    ) from None
                on_damage(number, str(exc))
            else:
                found[line.key, line.sample] = Done(end, line.outcome == "error", line.digest)
            end += len(data)
    return found, end


def lines_of(path: Path, index: dict[tuple[str, int], Done], end: int) -> Iterator[DoneLine]:
    """The lines that count, in the order in which they were written.

    Raises:
        StoreError: one cannot be read.
        OSError: the file cannot be read.
    """
    if not end:
        return
    lasts = {done.offset for done in index.values()}
    at = 0
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            if at >= end:
                return
            if at in lasts:
                yield _decoded(data, f"{path}:{number}")
            at += len(data)


def _whole(data: bytes) -> DoneLine:
    """A line of which all can be read: `Raw` takes what is no UTF-8."""
    line = _line.decode(data)
    for raw in (line.value, line.task):
        if raw is not msgspec.UNSET:
            msgspec.json.decode(raw)
    return line


def _decoded(data: bytes, place: str) -> DoneLine:
    try:
        return _line.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise StoreError(f"it is no line of a store: {exc}", path=place) from None


@final
class DoneFile:
    """The file, for the driver that has the lock.

    Args:
        path: it.
        fsync: whether each line is forced to the disk.

    Raises:
        StoreError: a line cannot be read.
        OSError: the file cannot be read, or written.
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self.index: dict[tuple[str, int], Done]
        self.end: int
        self.index, self.end = index_of(path)
        self._fd: int | None = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644
        )
        if os.fstat(self._fd).st_size > self.end:
            log.warning("%s: its last line was cut off; the task that it was of runs again", path)
            os.ftruncate(self._fd, self.end)

    def append(self, line: DoneLine) -> None:
        """Write a line.

        Raises:
            StoreError: the store was closed; or the file is not what it was.
            OSError: it could not be written, and nothing of it is there.
        """
        if self._fd is None:
            raise StoreError("it was closed while a map runs with it", path=str(self.path))
        if not self._is_in_place(self._fd):
            raise StoreError(
                "it was removed, replaced, written or cut off while its driver is at work",
                path=str(self.path),
            )
        data = _encode(line) + b"\n"
        try:
            if os.write(self._fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._fsync:
                os.fsync(self._fd)
        except OSError as exc:
            os.ftruncate(self._fd, self.end)
            exc.filename = str(self.path)
            raise
        self.index[line.key, line.sample] = Done(self.end, line.outcome == "error", line.digest)
        self.end += len(data)

    def _is_in_place(self, fd: int) -> bool:
        """Whether nobody else has touched it: what is written would be nowhere, or nowhere to be found."""
        own = os.fstat(fd)
        try:
            return own.st_size == self.end and os.path.samestat(own, os.stat(self.path))
        except FileNotFoundError:
            return False

    def read(self, key: str, sample: int) -> DoneLine:
        """The line of a task that is done.

        Raises:
            StoreError: it cannot be read.
            OSError: the file cannot be read.
        """
        with open(self.path, "rb") as file:
            file.seek(self.index[key, sample].offset)
            return _decoded(file.readline(), str(self.path))

    def close(self) -> None:
        """The second time it does nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


@final
class LostFile:
    """`lost.jsonl`: which tasks were lost, for the driver that has the lock. A resume begins with all others.

    A line that a kill has cut off is skipped: it costs the order alone.

    Args:
        path: the file; it is made with the first line.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys: set[tuple[str, int]] = set()
        """By key and sample."""
        for data in path.read_bytes().splitlines() if path.exists() else ():
            try:
                line = _lost.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            self.keys.add((line.key, line.sample))

    def append(self, line: LostLine) -> None:
        """Write a line. Raises OSError if it cannot be written."""
        with open(self._path, "ab", buffering=0) as file:
            file.write(b"\n" + _encode(line))
        self.keys.add((line.key, line.sample))
