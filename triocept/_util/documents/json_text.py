"""A JSON reader that records the line of each value, and rejects duplicate keys."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import NoReturn

from ...errors import DialectError
from .node import Node


def read_json(text: str, file: str) -> Node:
    """Return the document that a text contains.

    Args:
        text: the whole file.
        file: the file's name, which errors contain.

    Raises:
        DialectError: the text is not JSON, or an object has the same key twice; the error contains the line.
    """
    try:
        json.loads(text, parse_constant=_no_constant)
        return _Walk(text, file).read()
    except json.JSONDecodeError as exc:
        problem = f"this is not JSON: {exc.msg}, column {exc.colno}"
        raise Node(file, exc.lineno, "", None).error(problem) from None
    except RecursionError:
        raise Node(file, 1, "", None).error("the document is nested too deeply") from None
    except ValueError as exc:
        raise DialectError(f"this is not JSON: {exc}", path=file) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


class _Walk:
    """A reader of a JSON text that is known to be valid."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._breaks = [found.start() for found in re.finditer("\n", text)]

    def read(self, path: str = "", line: int | None = None) -> Node:
        """Read and return the next value.

        Args:
            path: path of the value.
            line: line of the value's key; None if the value has no key.
        """
        self._skip()
        node = Node(self._file, line or self._line, path, None)
        match self._text[self._at]:
            case "{":
                node.value = self._members(path)
            case "[":
                node.value = items = list[Node]()
                while self._goes_on("]"):
                    items.append(self.read(f"{path}[{len(items)}]"))
            case _:
                node.value, self._at = _decode(self._text, self._at)
        return node

    def _members(self, path: str) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while self._goes_on("}"):
            line = self._line
            name, self._at = _decode(self._text, self._at)
            place = f"{path}.{name}" if path else name
            if name in found:
                problem = f"{name!r} is defined twice: first on line {found[name].line}"
                raise Node(self._file, line, place, None).error(problem)
            self._skip()
            self._at += 1  # the colon
            found[name] = self.read(place, line)
        return found

    def _goes_on(self, end: str) -> bool:
        """Skip the next `[`, `{`, `,`, `]` or `}`.

        Return False if this character is `end`; otherwise an item follows.
        """
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
