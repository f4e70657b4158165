"""A value in a file, with its file name, line and path."""

from __future__ import annotations

import re
from typing import Any, TypeVar, final

import msgspec
from msgspec import UNSET

from ...errors import DialectError

T = TypeVar("T")


@final
class Node:
    """A value in a file.

    Args:
        file: name of the file.
        line: line of the value's key, or of the value's start if it has no key; counted from 1.
        path: path of the value, such as `calls[2].answer.content`; empty for the document itself.
        value: a text, number, boolean or None; or a list of nodes; or a dict of nodes by their names.
    """

    __slots__ = ("file", "line", "path", "value")

    def __init__(self, file: str, line: int, path: str, value: Any) -> None:
        self.file: str = file
        self.line: int = line
        self.path: str = path
        self.value: Any = value

    @property
    def place(self) -> str:
        """The file's name and the value's line number, as in `run.yaml:12`."""
        return f"{self.file}:{self.line}"

    def error(self, problem: str) -> DialectError:
        return DialectError(problem, path=f"{self.place}: {self.path}" if self.path else self.place)

    @property
    def json(self) -> Any:
        match self.value:
            case dict():
                return {name: inner.json for name, inner in self.value.items()}
            case list():
                return [inner.json for inner in self.value]
            case _:
                return self.value

    def find(self, path: str) -> Node:
        """Return the node at `path`, a path as msgspec writes it (`$.a[0]`).

        If the path does not exist, return the last existing node on it.
        """
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

    def converted(self, kind: type[T], value: Any = UNSET) -> T:
        """Convert `value` (default: the node's own value) to the type `kind` with msgspec, and return the result.

        Raise DialectError if `value` cannot be converted; the error contains the line and path of the wrong part.
        """
        try:
            return msgspec.convert(self.json if value is UNSET else value, kind)
        except msgspec.ValidationError as exc:
            problem, _, path = str(exc).partition(" - at ")
            raise self.find(path.strip("`")).error(f"{problem[:1].lower()}{problem[1:]}") from None

    @property
    def kind(self) -> str:
        names = {dict: "a mapping", list: "a list", str: "a text", bool: "a boolean", type(None): "nothing"}
        return names.get(type(self.value), "a number")

    def mapping(self, *known: str) -> dict[str, Node]:
        """Return the members of a mapping by name. If `known` is given, only these names are allowed.

        Raises:
            DialectError: the value is not a mapping, or has a member with another name.
        """
        if not isinstance(self.value, dict):
            raise self.error(f"expected a mapping, not {self.kind}")
        for name, inner in self.value.items():
            if known and name not in known:
                raise inner.error(f"there is no key {name!r} here; choose one of {', '.join(known)}")
        return self.value

    def items(self) -> list[Node]:
        if not isinstance(self.value, list):
            raise self.error(f"expected a list, not {self.kind}")
        return self.value

    def text(self, *words: str) -> str:
        if not isinstance(self.value, str):
            raise self.error(f"expected a text, not {self.kind}{self._in_quotes()}")
        if words and self.value not in words:
            raise self.error(f"there is no value {self.value!r} here; choose one of {', '.join(words)}")
        return self.value

    def text_or_items(self) -> str | list[Node]:
        if not isinstance(self.value, str | list):
            problem = f"expected a text or a list, not {self.kind}{self._in_quotes()}"
            raise self.error(problem)
        return self.value

    def _in_quotes(self) -> str:
        if isinstance(self.value, dict | list | None):
            return ""
        return f": {self.value!r}; put it in quotes to make it a text"

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.error(f"expected true or false, not {self.kind}: {_shown(self.value)}")
        return self.value

    def count(self, least: int = 0) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < least:
            raise self.error(
                f"expected a whole number of at least {least}, not {self.kind}: {_shown(self.value)}"
            )
        return self.value

    def seconds(self) -> float:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool) or not self.value >= 0:
            raise self.error(f"expected a number of seconds, not {self.kind}: {_shown(self.value)}")
        return float(self.value)


def _shown(value: Any) -> str:
    return "…" if isinstance(value, dict | list) else repr(value)


def node_of(value: Any) -> Node:
    """Return a node for a JSON value that does not come from a file."""
    node = Node("", 0, "", value)
    if isinstance(value, dict):
        node.value = {name: node_of(inner) for name, inner in value.items()}
    elif isinstance(value, list):
        node.value = [node_of(inner) for inner in value]
    return node


def decoded(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise Node(file, line, "", None).error(f"this is not UTF-8: byte 0x{data[exc.start]:02x}") from None
