"""Tasks in a CSV file with a header. Columns that are no fields of a task become metadata."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec

from .._types import Task
from .reading import TaskList

_JSON = ("files", "check_files", "metadata")
_NUMBERS = ("scorer_timeout", "time_limit", "turn_limit")


def read(path: Path) -> TaskList:
    found = TaskList(path.stem)
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        for number, row in enumerate(rows, 1):
            place = f"{path}:{rows.line_num}"
            try:
                document = document_of(row)
            except ValueError as exc:
                found.errors.append(f"{place}: {exc}")
            else:
                found.add(document, place, folder=path.parent, number=number)
    return found.checked(str(path))


def document_of(row: dict[Any, Any]) -> dict[str, Any]:
    """Return the document of a task for a row; raise ValueError if a field of the row cannot be read."""
    if None in row:
        raise ValueError(f"the row has more fields than the header: {row[None]}")
    document: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for name, text in row.items():
        if text is None or text == "":
            continue
        try:
            value = msgspec.json.decode(text) if name in (*_JSON, *_NUMBERS) else text
        except msgspec.DecodeError:
            kind = "a number" if name in _NUMBERS else "a JSON object"
            raise ValueError(f"{name} must be {kind}, not {text!r:.60}") from None
        is_field = name == "input" or name in Task.__struct_fields__
        (document if is_field else metadata)[name] = value
    if metadata:
        document["metadata"] = metadata | document.get("metadata", {})
    return document
