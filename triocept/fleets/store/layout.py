"""The directory of a store: create it, check that its files can be written and read, and lock it.

Rules:

1. A directory that has content but is no store is left unchanged.
2. `run.json` is written under another name and then renamed, so that no process can read a part of it.
3. Errors of the directory and its files are raised before any task runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import socket
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any, final

import msgspec

from ..._canonical.content import Json
from ..._util.disk import sync
from ...errors import StoreError

FORMAT = 1
RUN, LOCK, DONE, LOST, TRACES = "run.json", "lock", "done.jsonl", "lost.jsonl", "traces"
EVALUATION = "evaluation.json"
"""Name of the file that describes the evaluation to which the store belongs."""
_PART = RUN + ".part"
_WHAT = "a store of triocept.fleets"
_PROBE = 64 * 1024
"""Number of bytes that `probe` writes to check that the disk has free space."""


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `run.json`, the file that identifies a store and contains the settings of its run."""

    what: str = _WHAT
    format: int = FORMAT
    run: str
    """Unique identifier of the store."""
    function: str | None = None
    """Name of the function whose results the store contains; None if no map has used the store."""
    settings: dict[str, Json] = {}
    created_at: float
    """Time when the store was created, in seconds since the epoch."""
    versions: dict[str, str] = {}
    """Versions of `triocept` and `python` with which the store was created."""


class _Format(msgspec.Struct, frozen=True):
    what: str
    format: int


def is_store(directory: str | os.PathLike[str]) -> bool:
    return os.path.isfile(os.path.join(directory, RUN))


def make(directory: Path) -> None:
    """Create a store's directory and its parents. Raise StoreError if `directory` is a file, or has other content."""
    if directory.exists() and not directory.is_dir():
        raise StoreError("a store must be a directory, but this is a file", path=str(directory))
    directory.mkdir(parents=True, exist_ok=True)
    others = {entry.name for entry in os.scandir(directory)}
    strange = sorted(others - {LOCK, TRACES, _PART})
    if RUN not in others and strange:
        raise StoreError(
            "the directory is neither a store nor empty: it contains "
            f"{', '.join(strange[:3])}{', …' if strange[3:] else ''}; use an empty or a new directory",
            path=str(directory),
        )
    (directory / TRACES).mkdir(exist_ok=True)


def probe(directory: Path) -> None:
    """Raise OSError if the disk is full, or if no file can be created in `directory`. The error names `directory`."""
    path = directory / TRACES / f".probe-{token_hex(4)}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if os.write(fd, bytes(_PROBE)) < _PROBE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
            path.unlink()
    except OSError as exc:
        exc.filename = str(directory)
        raise


def unsafe(file: Path, store: Path) -> str:
    """Return the reason why `file`, an existing file of `store`, must not be read; empty if it may be read.

    The store may come from a person who is not trusted. So only regular files are read, and no link that leads out of
    the store is followed.
    """
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(os.path.realpath(store)):
        return "is a link that leads out of the store; to read that file, name it on the command line"
    return "" if real.is_file() or not os.path.lexists(file) else "is not a regular file"


def read_run(directory: Path) -> RunFile:
    """Return the content of `run.json`.

    Raise StoreError if the file does not belong to a store, if a newer triocept wrote it, or if a file of the store
    must not be read (see `unsafe`).
    """
    path = directory / RUN
    for name in (RUN, DONE, LOST, EVALUATION):
        if reason := unsafe(directory / name, directory):
            raise StoreError(f"the store is not read, because {name} {reason}", path=str(directory))
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(_no_store(directory), path=str(directory)) from None
    try:
        found = msgspec.json.decode(data, type=_Format)
        if found.what != _WHAT:
            raise StoreError(
                f"the directory is not a store: its {RUN} belongs to another program", path=str(directory)
            )
        if found.format > FORMAT:
            raise StoreError(
                f"the store was written by a newer triocept: its format is {found.format}, and this version reads "
                f"formats up to {FORMAT}",
                path=str(directory),
            )
        return msgspec.json.decode(data, type=RunFile)
    except msgspec.DecodeError as exc:
        raise StoreError(f"the {RUN} of the store cannot be read: {exc}", path=str(directory)) from None


def _no_store(directory: Path) -> str:
    """Return the text of the error for a path that is not the directory of a store."""
    what = f"the directory is not a store: it contains no {RUN}"
    if not directory.exists():
        what = "there is no such directory"
    elif not directory.is_dir():
        what = "this is a file, but a store is a directory"
    return f"{what}; name a directory that `triocept eval`, `triocept fleet` or a program with a store has written"


def write_run(directory: Path, run: RunFile) -> None:
    write_document(directory, RUN, run)


def write_document(directory: Path, name: str, document: object) -> None:
    """Write a file of the store as JSON; return when its content has reached the disk."""
    part = directory / f"{name}.part"
    data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(part, directory / name)
    sync(directory)


def new_run(settings: Mapping[str, Json]) -> RunFile:
    return RunFile(
        run=f"run_{token_hex(8)}",
        settings=dict(settings),
        created_at=time.time(),
        versions={"triocept": version("triocept"), "python": platform.python_version()},
    )


@final
class Lock:
    """Lock of the program that uses a store. The kernel releases it when the process ends, even if a signal kills it.

    Raises:
        StoreError: another program has locked the store.
        OSError: the lock file cannot be written, or the file system does not support locks.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError:
            who = os.pread(self._fd, 1000, 0).decode(errors="replace").strip()
            self.release()
            raise StoreError(
                f"another program uses the store{f' ({who})' if who else ''}: wait until it ends, or use another "
                "directory",
                path=str(directory),
            ) from None
        except OSError as exc:
            self.release()
            exc.filename = str(path)
            raise

    def release(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Describe the first difference between the settings `before` and `now`; return None if they are equal."""
    for name in dict.fromkeys([*before, *now]):
        one, other = before.get(name), now.get(name)
        if one != other or (name in before) != (name in now):
            was = f"{one!r:.100}" if name in before else "unset"
            is_now = f"{other!r:.100}" if name in now else "unset"
            return f"its setting {name} is {was}, not {is_now}"
    return None
