"""YAML as JSON values, and on which line each of them stands.

Rules:

1. It is JSON that is written in YAML: a word without quotes is null, true, false or a number only if it looks so in
   JSON, else a text. Tags, anchors and aliases are refused, and names that stand twice.
2. Whoever finds fault with a value can say where it is: `Node.error`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, final

from ..._canonical.content import Json
from ...errors import DialectError

__all__ = ["Node", "decoded", "node_of", "read_yaml"]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_CONSTANTS = {"null": None, "~": None, "": None, "true": True, "false": False}


@final
class Node:
    """A value in a file.

    Args:
        file: which.
        line: the first one of it, from 1.
        path: its place in the document.
        value: a text, number, boolean or None; a list of nodes; nodes by their names.
    """

    __slots__ = ("file", "line", "path", "value")

    def __init__(self, file: str, line: int, path: str, value: Any) -> None:
        self.file = file
        self.line = line
        self.path = path
        self.value = value

    def error(self, problem: str) -> DialectError:
        """What is wrong with it, and where it stands."""
        place = f"{self.file}:{self.line}"
        return DialectError(problem, path=f"{place}: {self.path}" if self.path else place)

    @property
    def json(self) -> Json:
        """The JSON value that it is."""
        match self.value:
            case dict():
                return {name: inner.json for name, inner in self.value.items()}
            case list():
                return [inner.json for inner in self.value]
            case _:
                return self.value

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        names = {dict: "a mapping", list: "a list", str: "a text", bool: "a boolean", type(None): "nothing"}
        return names.get(type(self.value), "a number")

    def mapping(self, *known: str) -> dict[str, Node]:
        """Its members, by name; with `known`, no others than these.

        Raises:
            DialectError: it is no mapping, or has another member.
        """
        if not isinstance(self.value, dict):
            raise self.error(f"a mapping is meant here, and this is {self.kind}")
        for name, inner in self.value.items():
            if known and name not in known:
                raise inner.error(f"there is no {name!r} here; there are {', '.join(known)}")
        return self.value

    def items(self) -> list[Node]:
        """Its items.

        Raises:
            DialectError: it is no list.
        """
        if not isinstance(self.value, list):
            raise self.error(f"a list is meant here, and this is {self.kind}")
        return self.value

    def text(self, *words: str) -> str:
        """It, a text; with `words`, one of these."""
        if not isinstance(self.value, str):
            raise self.error(f"a text is meant here, and this is {self.kind}: {_shown(self.value)}")
        if words and self.value not in words:
            raise self.error(f"there is no {self.value!r} here; there are {', '.join(words)}")
        return self.value

    def flag(self) -> bool:
        """It, true or false."""
        if not isinstance(self.value, bool):
            raise self.error(f"true or false is meant here, and this is {self.kind}: {_shown(self.value)}")
        return self.value

    def count(self, least: int = 0) -> int:
        """It, a whole number, of at least so much."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < least:
            raise self.error(
                f"a whole number from {least} is meant here, and this is {self.kind}: {_shown(self.value)}"
            )
        return self.value

    def seconds(self) -> float:
        """It, a number that is not negative."""
        if not isinstance(self.value, int | float) or isinstance(self.value, bool) or not self.value >= 0:
            raise self.error(f"seconds are meant here, and this is {self.kind}: {_shown(self.value)}")
        return float(self.value)


def _shown(value: Any) -> str:
    return "…" if isinstance(value, dict | list) else repr(value)


def node_of(value: Json) -> Node:
    """A JSON value that comes from no file, as a node."""
    node = Node("", 0, "", value)
    if isinstance(value, dict):
        node.value = {name: node_of(inner) for name, inner in value.items()}
    elif isinstance(value, list):
        node.value = [node_of(inner) for inner in value]
    return node


def read_yaml(text: str, file: str) -> Node:
    """What is in a text.

    Args:
        text: all of a file.
        file: its name, for errors.

    Raises:
        DialectError: it is no YAML, or more than JSON in YAML; the text says on which line.
    """
    import yaml  # a tenth of a second, and only who uses a cassette needs it

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(file, yaml.parse(text, Loader=loader)).document()
    except yaml.YAMLError as exc:
        problem = getattr(exc, "problem", None) or str(exc).splitlines()[0]
        raise Node(file, _line_of(exc, text), "", None).error(f"this is no YAML: {problem}") from None
    except RecursionError:
        raise Node(file, 1, "", None).error("it is nested too deep") from None


def _line_of(error: Any, text: str) -> int:
    """The line on which PyYAML has stopped."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return int(mark.line) + 1
    character = getattr(error, "character", None)  # one that no YAML may have
    end = text.find(chr(character)) if isinstance(character, int) else len(text)
    return text.count("\n", 0, max(0, end)) + 1


def decoded(data: bytes, file: str) -> str:
    """The text that is in the bytes of a file.

    Raises:
        DialectError: it is not UTF-8; the text says on which line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise Node(file, line, "", None).error(f"this is not UTF-8: byte 0x{data[exc.start]:02x}") from None


class _Builder:
    """Makes nodes of the events of PyYAML's parser."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self._file = file
        self._events = events

    def document(self) -> Node:
        self._next("StreamStartEvent")
        event = next(self._events)
        if type(event).__name__ == "StreamEndEvent":
            return Node(self._file, 1, "", None)
        found = self._node(next(self._events), "")
        self._next("DocumentEndEvent")
        event = next(self._events)
        if type(event).__name__ != "StreamEndEvent":
            raise self._at(event, "").error("the file has a second document")
        return found

    def _next(self, kind: str) -> None:
        event = next(self._events)
        assert type(event).__name__ == kind

    def _node(self, event: Any, path: str) -> Node:
        node = self._at(event, path)
        kind = type(event).__name__
        if kind == "AliasEvent" or event.anchor is not None:
            raise node.error("anchors and aliases are not meant here")
        if event.tag is not None:
            raise node.error(f"a tag ({event.tag}) is not meant here")
        if kind == "ScalarEvent":
            node.value = _plain_value(event.value, node) if event.implicit[0] else event.value
        elif kind == "SequenceStartEvent":
            node.value = list(self._items(path))
        else:
            node.value = self._members(path)
        return node

    def _items(self, path: str) -> Iterator[Node]:
        number = 0
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            yield self._node(event, f"{path}[{number}]")
            number += 1

    def _members(self, path: str) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            name = self._node(event, path)
            if type(event).__name__ != "ScalarEvent":
                raise name.error("a name is a text")
            key = event.value
            name.path = f"{path}.{key}" if path else key
            if key in found:
                raise name.error(f"{key!r} stands here twice: first on line {found[key].line}")
            found[key] = self._node(next(self._events), name.path)
            found[key].line = name.line
        return found

    def _at(self, event: Any, path: str) -> Node:
        return Node(self._file, event.start_mark.line + 1, path, None)


def _plain_value(text: str, node: Node) -> Json:
    """A word without quotes."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text) and len(text) < 1000:
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise node.error(f"there is no such number: {text}")
        return number
    return text
