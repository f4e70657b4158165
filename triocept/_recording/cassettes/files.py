"""The file of a cassette: read, and written whole or not at all.

Rules:

1. It is written beside, forced to the disk, and put in its place: whoever reads it has all of one writing. Who looks
   first at what is there is alone meanwhile.
2. Its last line says that it is whole: a file that was cut off anywhere is told from one that is short.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from ..._canonical.content import Json
from ..._util.documents import Node, decoded, read_yaml
from ..._util.unicode import mended
from .document import Read, read_document
from .yaml_writer import write_yaml

_HEAD = """\
# Calls of a model, recorded by triocept, and answered from here since. A call that asks the same gets its answer.
"""
_END = "..."
"""YAML's own word for the end of a document."""
_PATIENCE = 5.0
"""Seconds for others who are at work in a folder: that takes milliseconds, and whoever holds it longer hangs."""


def text_of(document: Json) -> str:
    """All of a cassette's file."""
    return f"{_HEAD}{write_yaml(mended(document))}{_END}\n"


def read_file(path: Path, name: str) -> list[Read]:
    """The calls in a file.

    Args:
        path: where it is.
        name: what it is called in errors.

    Raises:
        OSError: it cannot be read.
        DialectError: it is no cassette; the text says on which line.
    """
    text = decoded(path.read_bytes(), name)
    document = read_yaml(text, name)
    if not text.rstrip().endswith(f"\n{_END}"):
        raise Node(name, text.rstrip().count("\n") + 1, "", None).error(
            f"the file does not end with a line `{_END}`: is the rest of it missing?"
        )
    return read_document(document)


def name_of_at_most(name: str, size: int) -> str:
    """A name, or as much of its beginning as fits in so many bytes."""
    return name.encode()[:size].decode(errors="ignore")


def check_place(path: Path) -> None:
    """See whether a file can be written here, before anything is done that is to stand in it.

    Raises:
        OSError: it cannot.
    """
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process is in such a block of this folder, where the system can see to that. The folder is made.

    Raises:
        OSError: it cannot be made, or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # of Windows: the last one wins
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
            except OSError:  # a file system that has no locks
                pass
            break
        yield
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Put a text in the place of a file; the folders on the way are made.

    Raises:
        OSError: it cannot be written; the error names it. What was there before is there still.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    beside = target.with_name(f".{name_of_at_most(target.name, 100)}.{token_hex(8)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException as exc:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno is not None:
            raise OSError(exc.errno, exc.strerror, str(path)) from exc
        raise
    _force_name(target.parent)


def _force_name(folder: Path) -> None:
    """Have the folder's new entry forced to the disk, where that can be asked for."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # of Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems cannot
        pass
    finally:
        os.close(descriptor)
