"""Read tasks from a file that contains one JSON object in each line, or one JSON list of such objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

_BOM = b"\xef\xbb\xbf"
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)


def read(path: Path) -> Iterator[tuple[str, object]]:
    if path.suffix != ".json":
        for number, document in decoded_lines(path):
            yield f"{path}:{number}", document
        return
    try:
        documents = msgspec.json.decode(path.read_bytes().removeprefix(_BOM), type=list[object])
    except _ERRORS as exc:
        hint = "a .json file must contain one list of tasks; a .jsonl file must contain one task in each line"
        yield str(path), ValueError(f"{exc}; {hint}")
    else:
        yield from ((f"{path}, task {number}", document) for number, document in enumerate(documents, 1))


def decoded_lines(
    path: Path, form: str = 'a line has the form {"id": …, "prompt": …}'
) -> Iterator[tuple[int, object]]:
    """Yield the number of each line, and the document that the line contains.

    The document of a blank line is None. If a line is not a JSON value, an exception is yielded as its document.
    """
    for number, line in enumerate(path.read_bytes().removeprefix(_BOM).split(b"\n"), 1):
        document: object = None
        if number == 1 and line.lstrip().startswith(b"["):
            lines = f"write each task on its own line, for example with: jq -c '.[]' {path} > tasks.jsonl"
            yield number, ValueError(f"this is a JSON list, but each line must hold one task: {lines}")
            return
        if line.strip():
            try:
                document = msgspec.json.decode(line)
                problem = "a task must be a JSON object, not null"
            except _ERRORS as exc:
                problem = "the JSON object is not closed" if "truncated" in str(exc) else str(exc)
            document = ValueError(f"{problem}; {form}") if document is None else document
        yield number, document
