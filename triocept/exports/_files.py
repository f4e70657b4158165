"""Files and folders that are there whole, or not at all.

What is written goes beside its place, under a name that begins with a dot, and is moved there when it is whole and on
the disk. A file that is in its place already stays as it is, unless it is to be replaced; a folder is never replaced,
and neither is what is no file: a device (`/dev/null`), a pipe. Of a link, the file that it leads to is replaced.
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
    """A file to write, that appears as `path` at the end of the block; after an exception it does not.

    Raises:
        FileExistsError: there is something, and it is not to be replaced, or no file.
        OSError: it cannot be written.
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
    """A folder to fill, that appears as `path` at the end of the block; after an exception it does not.

    Raises:
        FileExistsError: there is something.
        OSError: it cannot be made.
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
        os.link(beside, path)  # unlike a rename, it fails where somebody was faster
    except FileExistsError as exc:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from exc
    except OSError:  # a file system without links
        os.replace(beside, path)


@contextmanager
def _naming(beside: Path, path: Path) -> Iterator[None]:
    """An error names the place that was asked for, and none of ours."""
    try:
        yield
    except OSError as exc:
        if exc.filename in (None, str(beside), beside) and exc.errno is not None:
            raise type(exc)(exc.errno, exc.strerror, str(path)) from exc
        raise
