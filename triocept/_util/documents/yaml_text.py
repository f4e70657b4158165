"""Read YAML as JSON values, each with its line number.

Rules:

1. Plain scalars follow YAML 1.2 (10.3, the core schema): `no` and `2026-11-27` are texts, and only `true`, `false` and
   `null` are constants. A key is a text, and must be unique. Tags are not allowed.
2. If aliases are allowed, an alias has the value of its anchor. An alias must not be inside its own anchor. The values
   that aliases copy count toward the maximum number of values (`_MOST`), because otherwise a file of a few lines could
   exceed the memory of the machine.
3. PyYAML's parser in C is used if it is installed. This parser is ten times as fast as PyYAML's parser in Python, and
   accepts `{text: Why?}` as YAML 1.2 does. PyYAML's parser in Python rejects this text, and the error suggests quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .node import Node

_MOST = 1_000_000
"""Maximum values of a document, including the copies made by aliases."""
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_UNQUOTED = re.compile(
    r"got '[?:{\[]|cannot start any token|expected ',' or|mapping values are not allowed|node content"
)
"""Pattern of PyYAML's errors about a character that is allowed only in quotes."""


_CONFLICT = re.compile(r"^(?:<{7} |={7}$|>{7} )", re.MULTILINE)


def read_yaml(text: str, file: str, *, aliases: bool = False) -> Node:
    """Return the document that a text contains.

    Args:
        text: the whole file.
        file: the file's name, which errors contain.
        aliases: True if anchors and aliases are allowed.

    Raises:
        DialectError: the text is not YAML, or uses a feature that JSON does not have; the error contains the line.
    """
    import yaml  # imported here: it takes a tenth of a second

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(file, yaml.parse(text, Loader=loader), aliases=aliases).document()
    except yaml.YAMLError as exc:
        if conflict := _CONFLICT.search(text):
            line = text.count("\n", 0, conflict.start()) + 1
            raise Node(file, line, "", None).error(
                "the file contains an unresolved merge conflict of git: keep the complete entries of both sides"
            ) from None
        if (opened := _unclosed(exc)) is not None:
            mark, line = opened
            raise Node(file, line, "", None).error(
                f"this is not YAML: the {mark} in line {line} is not closed: close it with {_CLOSED[mark]}, or put a "
                f"text that begins with {mark} in quotes"
            ) from None
        if (quoted := _quoted_star(exc, text)) is not None:
            raise Node(file, _line_of(exc, text), "", None).error(
                f"this is not YAML: a text that begins with * must be in quotes: write {quoted}"
            ) from None
        problem = ", ".join(filter(None, (getattr(exc, "context", None), getattr(exc, "problem", None))))
        problem = problem or str(exc).splitlines()[0]
        hint = "; put a text with such a character in quotes" if _UNQUOTED.search(problem) else ""
        raise Node(file, _line_of(exc, text), "", None).error(f"this is not YAML: {problem}{hint}") from None
    except RecursionError:
        raise Node(file, 1, "", None).error("the document is nested too deeply") from None


_CLOSED = {"[": "]", "{": "}"}
_OPENED = {"while parsing a flow sequence": "[", "while parsing a flow mapping": "{"}


def _unclosed(error: Any) -> tuple[str, int] | None:
    """Return a bracket that is not closed in its line, and the line's number; None if `error` has another cause."""
    mark = _OPENED.get(getattr(error, "context", None) or "")
    if mark is None or error.context_mark.line == error.problem_mark.line:
        return None
    return mark, error.context_mark.line + 1


def _quoted_star(error: Any, text: str) -> str | None:
    """Return the line of an error with the text that begins with * in quotes; None if `error` has another cause."""
    if getattr(error, "context", None) != "while scanning an alias":
        return None
    line = text.splitlines()[error.context_mark.line]
    return re.sub(r"\*[^\s:,\]}]*", r'"\g<0>"', line, count=1).strip()


def _line_of(error: Any, text: str) -> int:
    """Return the line at which PyYAML found the error."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return min(int(mark.line) + 1, text.rstrip("\n").count("\n") + 1)
    character = getattr(error, "character", None)  # a character of the file that YAML does not allow
    end = text.find(chr(character)) if isinstance(character, int) else len(text)
    return text.count("\n", 0, max(0, end)) + 1


class _Builder:
    """A builder of nodes from the events of PyYAML's parser."""

    def __init__(self, file: str, events: Iterator[Any], *, aliases: bool) -> None:
        self._file = file
        self._events = events
        self._aliases = aliases
        self._anchors: dict[str, tuple[Node, int]] = {}
        """For each anchor, by name: its node, and the number of values in the node."""
        self._count = 0

    def document(self) -> Node:
        event = next(self._events)
        assert type(event).__name__ == "StreamStartEvent"
        event = next(self._events)
        if type(event).__name__ == "StreamEndEvent":
            return Node(self._file, 1, "", None)
        found = self._node(next(self._events), "")
        end = next(self._events)
        assert type(end).__name__ == "DocumentEndEvent"
        event = self._after(end)
        if type(event).__name__ != "StreamEndEvent":
            raise self._at(event, "").error(
                "a second YAML document begins here, but the file must have only one"
            )
        return found

    def _after(self, end: Any) -> Any:
        """Return the event after `end`, the end of the document. Raise DialectError if more text follows."""
        import yaml

        try:
            return next(self._events)
        except yaml.YAMLError as exc:
            if not end.explicit:
                raise
            mark: Any = getattr(exc, "problem_mark", None) or end.end_mark
            raise Node(self._file, mark.line + 1, "", None).error(
                f"there is text after the line `...` (line {end.start_mark.line + 1}), which ends the file"
            ) from None

    def _node(self, event: Any, path: str) -> Node:
        node = self._at(event, path)
        kind = type(event).__name__
        self._add(1, node)
        if kind == "AliasEvent":
            return self._alias(event.anchor, node)
        if event.anchor is not None and not self._aliases:
            raise node.error("anchors and aliases are not allowed here")
        if event.tag is not None:
            raise node.error(f"a tag ({event.tag}) is not allowed here")
        before = self._count
        if kind == "ScalarEvent":
            node.value = _plain_value(event.value, node) if event.implicit[0] else event.value
        elif kind == "SequenceStartEvent":
            node.value = items = list[Node]()
            while type(inner := next(self._events)).__name__ != "SequenceEndEvent":
                items.append(self._node(inner, f"{path}[{len(items)}]"))
        else:
            node.value = self._members(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node, self._count - before
        return node

    def _alias(self, name: str, node: Node) -> Node:
        if not self._aliases:
            raise node.error("anchors and aliases are not allowed here")
        if name not in self._anchors:
            raise node.error(
                f"the alias `*{name}` refers to no value: no value with the anchor `&{name}` ends before it"
            )
        meant, count = self._anchors[name]
        self._add(count, node)
        node.value = meant.value
        return node

    def _add(self, count: int, node: Node) -> None:
        self._count += count
        if self._count > _MOST:
            raise node.error(f"the file has more than {_MOST} values")

    def _members(self, path: str) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            name = self._node(event, path)
            if not isinstance(name.value, str):
                shown = getattr(event, "value", None)
                hint = "" if shown is None else f"; to make {shown!r} a text, put it in quotes"
                raise name.error(f"a key must be a text{hint}")
            key = name.value
            name.path = f"{path}.{key}" if path else key
            if key in found:
                raise name.error(f"{key!r} is defined twice: first on line {found[key].line}")
            found[key] = self._node(next(self._events), name.path)
            found[key].line = name.line
        return found

    def _at(self, event: Any, path: str) -> Node:
        return Node(self._file, event.start_mark.line + 1, path, None)


def _plain_value(text: str, node: Node) -> Any:
    """Return the value of a scalar without quotes."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text) and len(text) < 1000:
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise node.error(f"the number is too large: {text}")
        return number
    return text
