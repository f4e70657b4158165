"""A script in a file."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import msgspec

from ..._canonical.content import Json, ToolCall
from ...errors import DialectError, Refusal
from .replies import Reply

__all__ = ["read_script"]


def read_script(path: str | Path) -> list[Reply]:
    """The replies in a file.

    A Python file defines `replies`. A JSON file is a list of: strings (text); numbers (pauses, in seconds);
    `{"tool": name, "arguments": {…}}`; `{"refuse": status, "message": …, "retry_after": seconds}`; lists of strings
    and tools (one response).

    Raises:
        OSError: the file cannot be read.
        DialectError: it is not a script; the path in it is named.
    """
    path = Path(path)
    if path.suffix == ".py":
        found = runpy.run_path(str(path)).get("replies")
        if not isinstance(found, (list, tuple)):
            raise DialectError("a Python script defines a list named 'replies'", path=str(path))
        return list(found)
    try:
        document = json.loads(path.read_bytes())
    except ValueError as exc:
        raise DialectError(f"not valid JSON (a Python script is named *.py): {exc}", path=str(path)) from exc
    if not isinstance(document, list):
        raise DialectError("a JSON script is a list of replies", path=str(path))
    return [_from_json(item, f"{path}[{number}]") for number, item in enumerate(document)]


def _from_json(item: Json, place: str) -> Reply:
    match item:
        case bool():
            pass
        case str() | int() | float():
            return item
        case {"tool": str() as name}:
            _check_names(item, ("tool", "arguments", "id"), place)
            return ToolCall(name, msgspec.json.encode(item.get("arguments", {})).decode(), item.get("id", ""))
        case {"refuse": int() as status}:
            _check_names(item, ("refuse", "message", "retry_after"), place)
            try:
                return Refusal(status, item.get("message", "refused"), retry_after=item.get("retry_after"))
            except (TypeError, ValueError) as exc:
                raise DialectError(str(exc), path=place) from None
        case list():
            parts = [_from_json(inner, f"{place}[{number}]") for number, inner in enumerate(item)]
            if all(isinstance(part, (str, ToolCall)) for part in parts):
                return parts  # type: ignore[return-value]
    raise DialectError(f"not a reply: {item!r}", path=place)


def _check_names(item: dict[str, Json], known: tuple[str, ...], place: str) -> None:
    if unknown := [name for name in item if name not in known]:
        raise DialectError(f"there is no {unknown[0]!r} here; there are {', '.join(known)}", path=place)
