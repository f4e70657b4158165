"""The file of a cassette, which is written whole or not at all.

Rules:

1. The content is written to a second file, forced to the disk, and renamed: a reader always sees one complete version.
   A writer that reads the file first holds a lock meanwhile.
2. The last line marks the end: a truncated file differs from a short file.
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
"""YAML's own marker for the end of a document."""
_PATIENCE = 5.0
"""Maximum seconds to wait for the lock of a folder. It is held for milliseconds; a longer holder is stuck."""


def text_of(document: Json) -> str:
    """Return the complete text of a cassette's file."""
    return f"{_HEAD}{write_yaml(mended(document))}{_END}\n"


def read_file(path: Path, name: str) -> list[Read]:
    """Return the calls in a file.

    Args:
        path: path of the file.
        name: name of the file in errors.

    Raises:
        OSError: the file cannot be read.
        DialectError: the file is not a cassette; the text names the line.
    """
    text = decoded(path.read_bytes(), name)
    document = read_yaml(text, name)
    if not text.rstrip().endswith(f"\n{_END}"):
        raise Node(name, text.rstrip().count("\n") + 1, "", None).error(
            f"the file does not end with a line `{_END}`: is the rest of it missing?"
        )
    return read_document(document)


def name_of_at_most(name: str, size: int) -> str:
    """Return a name, cut to at most `size` bytes."""
    return name.encode()[:size].decode(errors="ignore")


def check_place(path: Path) -> None:
    """Raise if a file cannot be written here, before any work on its content.

    Raises:
        OSError: the file cannot be written.
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
    """Hold an exclusive lock on this folder for the block, if the system has locks. The folder is made.

    Raises:
        OSError: the folder cannot be made, or read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: the last writer wins
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
            except OSError:  # a file system without locks
                pass
            break
        yield
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Replace a file's content with a text; missing folders are made.

    Raises:
        OSError: the file cannot be written; the error names it. The previous content is then unchanged.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
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
    """Force the folder's new entry to the disk, if the system supports it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems do not support it
        pass
    finally:
        os.close(descriptor)
