"""The file of a cassette: read, and written whole or not at all.

Rules:

1. It is written beside, forced to the disk, and put in its place: whoever reads it has all of one writing. Of two that
   write at once the last one wins.
2. Its last line says that it is whole: a file that was cut off anywhere is told from one that is short.
"""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

from ..._canonical.content import Json
from ..._unicode import mended
from .document import Read, read_document
from .yaml_reader import Node, decoded, read_yaml
from .yaml_writer import write_yaml

__all__ = ["read_file", "text_of", "write_file"]

_HEAD = """\
# Calls of a model, recorded by triocept, and answered from here since. A call that asks the same gets its answer.
"""
_END = "..."
"""YAML's own word for the end of a document."""


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


def write_file(path: Path, text: str) -> None:
    """Put a text in the place of a file; the folders on the way are made.

    Raises:
        OSError: it cannot be written. What was there before is there still.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name[:100]}.{token_hex(8)}.tmp")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _force_name(path.parent)


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
