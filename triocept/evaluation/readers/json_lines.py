"""Tasks in a file with one JSON object in each line, or with one JSON list of such objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

_BOM = b"\xef\xbb\xbf"
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)


def read(path: Path) -> Iterator[tuple[str, object]]:
    data = path.read_bytes().removeprefix(_BOM)
    if path.suffix != ".json":
        for number, line in enumerate(data.split(b"\n"), 1):
            yield f"{path}:{number}", _document(line) if line.strip() else None
        return
    try:
        documents = msgspec.json.decode(data, type=list[object])
    except _ERRORS as exc:
        hint = "a .json file holds one list of tasks, a .jsonl file a task per line"
        yield str(path), ValueError(f"{exc}; {hint}")
    else:
        yield from ((f"{path}, task {number}", document) for number, document in enumerate(documents, 1))


def _document(line: bytes) -> object:
    try:
        return msgspec.json.decode(line)
    except _ERRORS as exc:
        problem = "the JSON object is not closed" if "truncated" in str(exc) else str(exc)
        return ValueError(f'{problem}; a line has the form {{"id": …, "prompt": …}}')
