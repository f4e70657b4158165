"""A script in a file: Python, YAML, JSON, or aimock's fixtures."""

from __future__ import annotations

import runpy
from pathlib import Path

from ...errors import DialectError
from .document import read_document
from .reading import read_items
from .replies import Reply
from .rules import Rule

__all__ = ["read_script"]


def read_script(path: str | Path) -> list[Reply | Rule]:
    """The replies and rules in a file, as `ScriptedModel` takes them.

    A Python file (`*.py`) defines `replies`. A YAML file (`*.yaml`, `*.yml`) or a JSON file (any other) is a list:

    * a text, or a list of texts and tool calls (one response); a number, a pause of so many seconds;
    * `{"tool": name, "arguments": {…}}`; `{"refuse": status, "message": …, "retry_after": seconds}`; `{"parts": […]}`;
      `{"template": …}`; `{"asked_json": {…}}`; `{"stream": […], "delay": …}`; `{"paced": …}`; `{"fault": …}`;
    * a rule: `{"when": {"text": …}, "reply": …}`, or `replies`, `repeat`, `cycle` in the place of `reply`;
      `{"otherwise": …}`.

    The page "Answer by a script" has them all, and the reference a JSON Schema. In YAML only `true` and `false` are no
    texts among the words, as in YAML 1.2.

    Raises:
        OSError: the file cannot be read.
        DialectError: it is no script; file, line and place in it are named.
    """
    path = Path(path)
    if path.suffix == ".py":
        return _read_python(path)
    return read_items(read_document(path))


def _read_python(path: Path) -> list[Reply | Rule]:
    found = runpy.run_path(str(path)).get("replies")
    if not isinstance(found, (list, tuple)):
        raise DialectError("a Python script defines a list named 'replies'", path=str(path))
    return list(found)
