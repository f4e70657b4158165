"""Read tasks from a CSV file with a header. If a column's name is no field of `Task`, its values become metadata."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from .reading import document_of

_JSON = ("files", "check_files", "metadata")
_NUMBERS = ("scorer_timeout", "time_limit", "turn_limit")


def read(path: Path) -> Iterator[tuple[str, object]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        for row in rows:
            yield f"{path}:{rows.line_num}", _document(row)


def _document(row: dict[Any, Any]) -> dict[str, Any] | ValueError:
    if None in row:
        return ValueError(f"the row has more fields than the header: {row[None]}")
    fields = {name: text for name, text in row.items() if text}
    for name in fields.keys() & {*_JSON, *_NUMBERS}:
        try:
            fields[name] = msgspec.json.decode(fields[name])
        except msgspec.DecodeError:
            kind = "a number" if name in _NUMBERS else "a JSON object"
            return ValueError(f"{name} must be {kind}, not {fields[name]!r:.60}")
    return document_of(fields)
