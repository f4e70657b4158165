"""The file `done.jsonl`: it has a line, one JSON object, for each task or sample that has an outcome.

If a task was run again after an error (`retry_errors`), the file has several lines about it, of which the last line
counts.

Rules:

1. The driver (the program that opened the fleet) holds the store's lock. The driver writes each line with one `write`,
   before the result is delivered. If only a part of a line could be written, the driver removes this part.
2. Bytes after the last newline are not a line: the driver removes them, and readers ignore them.
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
"""Name of an outcome in a line of `done.jsonl`. `stopped` means that the group of the sample was stopped."""

log: logging.Logger = logging.getLogger("triocept.fleet")


class TracePlace(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Place of a trace's lines in a file, which may also contain lines of other traces."""

    rollout: str
    """Id of the trace's rollout."""
    run: str
    """`Trace.run`, which distinguishes rollouts that have the same id."""
    file: str
    """Name of the file in the store's directory `traces`."""
    begin: int
    """Start of the trace's first line, in bytes from the start of the file."""
    end: int
    """End of the trace's last line, in bytes, at the time when the task got its outcome. The line of a score that was
    recorded later is not included."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Start and end of each block of the trace's lines, in bytes from the start of the file. Empty if no line of
    another trace is between the trace's lines.
    """
    digest: str | None = None
    """`Trace.digest`; None if the rollout was still open when the task got its outcome."""


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    type: str
    """Full name of the exception's class, for example `myproject.errors.Odd`."""
    message: str
    traceback: str = ""


class DoneLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    key: str
    sample: int = msgspec.field(default_factory=int)
    """Index of the sample in its group; 0 if the line has no `sample`, as in files of earlier versions. New lines
    always contain `sample`, because msgspec does not omit a field with `default_factory`.
    """
    group: int | None = None
    outcome: OutcomeWord
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: ErrorLine | None = None
    number: int
    attempt: int
    worker: str
    at: float
    """Time when the line was written, in seconds since the epoch."""
    scores: dict[str, float] = {}
    traces: tuple[TracePlace, ...] = ()
    digest: str | None = None
    """Digest of the task's content. A resumed run checks that its task has the same digest. None if the content is not
    compared (`Key.digest`).
    """
    task: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """The task; unset if it is not JSON."""


class LostLine(msgspec.Struct, frozen=True, kw_only=True):
    """Line of `lost.jsonl` about a task or sample whose outcome is `Outcome.Lost`.

    A resumed run runs the task again.
    """

    key: str
    sample: int
    attempt: int
    worker: str
    reason: str
    """Reason why the worker of the last attempt ended."""
    beside: tuple[int, ...]
    """Numbers of other tasks, as in `Outcome.Lost.beside`."""
    at: float
    """Time when the line was written, in seconds since the epoch."""


class Done(msgspec.Struct, frozen=True, gc=False):
    """The data that is kept in memory about each stored outcome of a task or sample."""

    offset: int
    """Start of the task's line in the file, in bytes."""
    is_error: bool
    digest: str | None


_line = msgspec.json.Decoder(DoneLine)
_lost = msgspec.json.Decoder(LostLine)
_encode = msgspec.json.Encoder().encode


def index_of(
    path: Path, on_damage: Callable[[int, str], object] | None = None
) -> tuple[dict[tuple[str, int], Done], int]:
    """Read a `done.jsonl`.

    Return the last line of each task or sample, as a `Done` by (key, sample), and the end of the last complete line.

    The end is an offset in bytes from the start of the file. `on_damage` is called with the number of each unreadable
    line, and with the reason why it cannot be read. If `on_damage` is None, raise StoreError for the first unreadable
    line.
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
                line = _line.decode(data)
                for raw in (line.value, line.task):
                    if raw is not msgspec.UNSET:
                        msgspec.json.decode(raw)  # `Raw` accepts invalid UTF-8
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                if on_damage is None:
                    raise StoreError(
                        f"this line does not belong to a store: {exc}; if you remove the line, its task runs again",
                        path=f"{path}:{number}",
                    ) from None
                on_damage(number, str(exc))
            else:
                found[line.key, line.sample] = Done(end, line.outcome == "error", line.digest)
            end += len(data)
    return found, end


def lines_of(path: Path, index: dict[tuple[str, int], Done], end: int) -> Iterator[DoneLine]:
    """Yield the last line of each task or sample, in the file's order. Raise StoreError if a line cannot be read."""
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


def _decoded(data: bytes, place: str) -> DoneLine:
    try:
        return _line.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise StoreError(f"this line does not belong to a store: {exc}", path=place) from None


@final
class DoneFile:
    """The file `done.jsonl` of a store. The program that holds the store's lock appends a line for each finished task.

    `fsync=True` syncs the file after each line.
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
            log.warning("the last line of %s was cut off; the task of that line runs again", path)
            os.ftruncate(self._fd, self.end)

    def append(self, line: DoneLine) -> None:
        """Append a line. If this raises OSError, no part of the line is in the file.

        Raise StoreError if the store was closed, or if another program has changed the file.
        """
        if self._fd is None:
            raise StoreError("the store was closed while `fleet.map` was using it", path=str(self.path))
        own = os.fstat(self._fd)
        try:  # in a file that another program has changed, a new line would be lost
            is_in_place = own.st_size == self.end and os.path.samestat(own, os.stat(self.path))
        except FileNotFoundError:
            is_in_place = False
        if not is_in_place:
            raise StoreError(
                "another program removed or changed the file while the store was open", path=str(self.path)
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

    def read(self, key: str, sample: int) -> DoneLine:
        """Return the last line of a task or sample that has an outcome. Raise StoreError if the line cannot be read."""
        with open(self.path, "rb") as file:
            file.seek(self.index[key, sample].offset)
            return _decoded(file.readline(), str(self.path))

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


@final
class LostFile:
    """The file `lost.jsonl`: the tasks whose outcome is `Outcome.Lost`.

    A resumed run runs these tasks after all other tasks.

    Only the program that holds the lock opens the file. The file is created when its first line is written. If the
    program was killed, the last line may be incomplete. Such a line is skipped, which changes only the order of the
    tasks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys: dict[tuple[str, int], LostLine] = {}
        """The last line of each lost task, by key and sample."""
        for data in path.read_bytes().splitlines() if path.exists() else ():
            try:
                line = _lost.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            self.keys[line.key, line.sample] = line

    def append(self, line: LostLine) -> None:
        with open(self._path, "ab", buffering=0) as file:
            file.write(b"\n" + _encode(line))
        self.keys[line.key, line.sample] = line
