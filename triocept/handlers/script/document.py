"""A file's document, each value with the line that it stands in.

Rules:

1. JSON is read as JSON, and YAML as YAML 1.2 has it: `no` and `2026-11-27` are texts there, and only `true` and `false`
   are neither.
2. A key stands once in a mapping, and is a text.
3. What is wrong is a `DialectError` that begins with file, line and place.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from ..._canonical.content import Json
from ...errors import DialectError

__all__ = ["DEEPEST", "Node", "NodeValue", "read_document"]

DEEPEST = 64
"""Levels of a document: far more than any script has; an alias in YAML that is in itself has no end."""

NodeValue: TypeAlias = "str | int | float | bool | list[Node] | dict[str, Node] | None"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A value of a document, and where it stands."""

    value: NodeValue
    file: str
    line: int
    """From 1."""
    path: str
    """The way to it: `[2].when.text`; empty for the document itself."""
    key_line: int | None = None
    """The line of its key, if it has one."""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def plain(self) -> Json:
        """The value without its places."""
        match self.value:
            case dict() as inner:
                return {name: node.plain() for name, node in inner.items()}
            case list() as inner:
                return [node.plain() for node in inner]
            case value:
                return value

    def error(self, problem: str, *, at_key: bool = False) -> DialectError:
        line = self.key_line if at_key and self.key_line is not None else self.line
        where = f"{self.file}:{line}"
        return DialectError(problem, path=f"{where}: {self.path}" if self.path else where)

    def find(self, path: str) -> Node:
        """What msgspec means by `$.a[0]`; as near as can be got."""
        node = self
        for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            match node.value:
                case dict() as inner if name in inner:
                    node = inner[name]
                case list() as inner if number and int(number) < len(inner):
                    node = inner[int(number)]
                case _:
                    break
        return node


def read_document(path: Path) -> Node:
    """The document in a file: YAML in `*.yaml` and `*.yml`, else JSON.

    Raises:
        OSError: it cannot be read.
        DialectError: it is none.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DialectError(f"not UTF-8: {exc}", path=str(path)) from None
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            from .yaml_document import read_yaml  # 20 ms that no other script needs

            return read_yaml(text, str(path))
        return _read_json(text, str(path))
    except RecursionError:
        _too_deep(str(path))


def _too_deep(file: str) -> NoReturn:
    raise DialectError(f"more than {DEEPEST} levels deep", path=file) from None


def _read_json(text: str, file: str) -> Node:
    try:
        json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        problem = f"not valid JSON (a Python script is named *.py, a YAML one *.yaml): {exc}"
        raise DialectError(problem, path=f"{file}:{exc.lineno}") from None
    except ValueError as exc:
        raise DialectError(f"not valid JSON: {exc}", path=file) from None
    return _Walk(text, file).read()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"there is no {name} in JSON")


_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


class _Walk:
    """A way through a text that is known to be JSON."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._breaks = [found.start() for found in re.finditer("\n", text)]

    def read(self, path: str = "", key_line: int | None = None, depth: int = 0) -> Node:
        """The value that comes next."""
        if depth > DEEPEST:
            _too_deep(self._file)
        self._skip()
        line = self._line
        value: NodeValue
        match self._text[self._at]:
            case "{":
                value = dict(self._members(path, depth))
            case "[":
                value = list(self._items(path, depth))
            case _:
                value, self._at = _decode(self._text, self._at)
        return Node(value=value, file=self._file, line=line, path=path, key_line=key_line)

    def _members(self, path: str, depth: int) -> Iterator[tuple[str, Node]]:
        lines: dict[str, int] = {}
        while self._goes_on("}"):
            line = self._line
            name, self._at = _decode(self._text, self._at)
            if name in lines:
                problem = f"{name!r} stands here twice, in line {lines[name]}, too"
                raise DialectError(problem, path=f"{self._file}:{line}: {path}".removesuffix(": "))
            lines[name] = line
            self._skip()
            self._at += 1  # the colon
            yield name, self.read(f"{path}.{name}" if path else name, line, depth + 1)

    def _items(self, path: str, depth: int) -> Iterator[Node]:
        number = 0
        while self._goes_on("]"):
            yield self.read(f"{path}[{number}]", None, depth + 1)
            number += 1

    def _goes_on(self, end: str) -> bool:
        """Step over what opens, parts or ends; whether something comes."""
        self._skip()
        if self._text[self._at] != end:
            self._at += 1
            self._skip()
        if self._text[self._at] != end:
            return True
        self._at += 1
        return False

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    @property
    def _line(self) -> int:
        return bisect_right(self._breaks, self._at) + 1
