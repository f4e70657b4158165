"""The document in a script's file: YAML or JSON, by its name."""

from __future__ import annotations

from pathlib import Path

from ..._document import Node, decoded, read_json, read_yaml
from ...errors import DialectError

__all__ = ["read_document"]

_YAML = (".yaml", ".yml")


def read_document(path: Path) -> Node:
    """The document in a file: YAML in `*.yaml` and `*.yml`, else JSON.

    Raises:
        OSError: it cannot be read.
        DialectError: it is none; the text begins with file and line.
    """
    text = decoded(path.read_bytes(), str(path))
    if path.suffix.lower() in _YAML:
        return read_yaml(text, str(path), aliases=True)
    try:
        return read_json(text, str(path))
    except DialectError as exc:
        if path.suffix.lower() == ".json":
            raise
        problem = f"{exc.problem} (a Python script is named *.py, a YAML one *.yaml)"
        raise DialectError(problem, path=exc.path) from None
