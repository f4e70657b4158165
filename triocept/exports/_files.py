"""Files and folders that are written whole, or not at all.

Content is written next to its destination, under a name that begins with a dot. It is moved there when it is complete
and on the disk. An existing file is kept unless it is to be replaced. A folder is never replaced, and neither is
anything else that is not a file: a device (`/dev/null`), a pipe. For a link, the file it points to is replaced.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
    """Open a new file that appears as `path` at the end of the block; after an exception it does not.

    Raises:
        FileExistsError: `path` exists and is not to be replaced, or is not a file.
        OSError: the file cannot be written.
    """
    _check_place(path, replace=replace)
    if replace:
        path = Path(os.path.realpath(path))
    beside = _beside(path)
    try:
        with _naming(beside, path), open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(beside, path, replace=replace)
    finally:
        with suppress(OSError):
            beside.unlink()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder that appears as `path` at the end of the block; after an exception it does not.

    Raises:
        FileExistsError: `path` exists.
        OSError: the folder cannot be made.
    """
    _check_place(path, replace=False)
    beside = _beside(path)
    with _naming(beside, path):
        beside.mkdir()
    try:
        yield beside
        _check_place(path, replace=False)
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.{token_hex(4)}.part")


def _check_place(path: Path, *, replace: bool) -> None:
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if os.path.lexists(path):
        if not replace:
            words = f"{os.strerror(errno.EEXIST)}, and replace=True is not given"
            raise FileExistsError(errno.EEXIST, words, str(path))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.exists() and not path.is_file():
            raise FileExistsError(errno.EEXIST, "it is no file, and is not replaced", str(path))


def _put_in_place(beside: Path, path: Path, *, replace: bool) -> None:
    if replace:
        os.replace(beside, path)
        return
    try:
        os.link(beside, path)  # unlike a rename, it fails if the path exists by now
    except FileExistsError as exc:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from exc
    except OSError:  # a file system without links
        os.replace(beside, path)


@contextmanager
def _naming(beside: Path, path: Path) -> Iterator[None]:
    """Turn the name in an OSError from the temporary path into `path`."""
    try:
        yield
    except OSError as exc:
        if exc.filename in (None, str(beside), beside) and exc.errno is not None:
            raise type(exc)(exc.errno, exc.strerror, str(path)) from exc
        raise
