"""Readers of wire documents, whose errors carry a path; and what nobody read of them, put together again.

Rules:

1. A field that is null is a field that is not there.
2. What a reader takes is understood; `rest()` is what nobody took, and becomes somebody's `extra`.
3. Kinds are checked, values are not: every enum is open unless its reader says otherwise.
4. What the chunks of a stream have beside is gathered into the form of a whole answer's.
"""

from __future__ import annotations

from collections.abc import Iterator

from .._canonical.content import Json
from ..errors import DialectError

__all__ = ["Fields", "kind_of", "known_of", "merged", "read_list", "read_text", "gather"]

_MOST_COUNTED = 2**53
"""What every JSON reader takes for a whole number (RFC 8259, 6); sums of a few of it fit a file's 64 bits."""
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def kind_of(value: Json) -> str:
    """What JSON calls the kind of this value."""
    return _KINDS.get(type(value), "a number")


def read_text(value: Json, path: str) -> str:
    """`value`, which must be a string."""
    if isinstance(value, str):
        return value
    raise DialectError(f"must be a string, not {kind_of(value)}", path=path)


def read_list(value: Json, path: str) -> list[Json]:
    """`value`, which must be a list."""
    if isinstance(value, list):
        return value
    raise DialectError(f"must be a list, not {kind_of(value)}", path=path)


class Fields:
    """The fields of one wire object, taken one by one.

    Raises:
        DialectError: it is no object; and from every reader, a field has the wrong kind or is missing.
    """

    __slots__ = ("_left", "path")

    def __init__(self, value: Json, path: str = "") -> None:
        if not isinstance(value, dict):
            raise DialectError(f"must be an object, not {kind_of(value)}", path=path)
        self._left: dict[str, Json] = dict(value)
        self.path: str = path

    def at(self, name: str) -> str:
        """The path of the field `name`."""
        return f"{self.path}.{name}" if self.path else name

    def peek(self, name: str) -> Json:
        """The field as it is, left in place."""
        return self._left.get(name)

    def take(self, name: str) -> Json:
        """The field as it is; None where it is missing."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self._left.pop(name, None)
        if value is None or isinstance(value, str):
            return value
        return read_text(value, self.at(name))

    def need_text(self, name: str) -> str:
        value = self._left.pop(name, None)
        if isinstance(value, str):
            return value
        if value is None:
            raise DialectError("is missing", path=self.at(name))
        return read_text(value, self.at(name))

    def flag(self, name: str) -> bool | None:
        value = self._left.pop(name, None)
        if value is None or isinstance(value, bool):
            return value
        raise DialectError(f"must be a boolean, not {kind_of(value)}", path=self.at(name))

    def number(self, name: str) -> float | None:
        value = self._left.pop(name, None)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise DialectError(f"must be a number, not {kind_of(value)}", path=self.at(name))

    def integer(self, name: str) -> int | None:
        """A whole number; `5.0` is one."""
        value = self.number(name)
        if value is None or value == int(value):
            return value if value is None else int(value)
        raise DialectError("must be a whole number", path=self.at(name))

    def count(self, name: str) -> int | None:
        """A number of tokens; None where what stands there counts nothing: it is below 0, or beyond all measure."""
        value = self.integer(name)
        return value if value is not None and 0 <= value <= _MOST_COUNTED else None

    def need_integer(self, name: str) -> int:
        value = self.integer(name)
        if value is None:
            raise DialectError("is missing", path=self.at(name))
        return value

    def array(self, name: str) -> list[Json]:
        """A list, as it is; an empty one where it is missing."""
        value = self._left.pop(name, None)
        return [] if value is None else read_list(value, self.at(name))

    def items(self, name: str) -> list[tuple[str, Json]]:
        """The items of a list, each with its path; none where the list is missing."""
        value = self._left.pop(name, None)
        return [] if value is None else list(self._paths(name, value))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        return tuple(read_text(value, path) for path, value in self.items(name))

    def mapping(self, name: str) -> dict[str, Json] | None:
        """An object, as it is."""
        value = self._left.pop(name, None)
        if value is None or isinstance(value, dict):
            return value
        raise DialectError(f"must be an object, not {kind_of(value)}", path=self.at(name))

    def object(self, name: str) -> Fields | None:
        """An object, to be read in turn."""
        value = self._left.pop(name, None)
        return None if value is None else Fields(value, self.at(name))

    def need_object(self, name: str) -> Fields:
        found = self.object(name)
        if found is None:
            raise DialectError("is missing", path=self.at(name))
        return found

    def keep(self, name: str, value: Json) -> None:
        """Put back under `name` what was not understood; nothing where `value` is empty."""
        if value:
            self._left[name] = value

    def mark(self, name: str) -> None:
        """Leave `name` in `rest()` as null: only that it came is worth knowing."""
        self._left[name] = None

    def rest(self) -> dict[str, Json] | None:
        """What nobody took, or None."""
        return self._left or None

    def _paths(self, name: str, value: Json) -> Iterator[tuple[str, Json]]:
        path = self.at(name)
        for number, item in enumerate(read_list(value, path)):
            yield f"{path}[{number}]", item


def merged(document: Json, extra: Json) -> Json:
    """`document` with the fields of `extra`, object by object and item by item; `extra` wins."""
    if isinstance(document, dict) and isinstance(extra, dict):
        both = {name: merged(document[name], extra[name]) for name in document.keys() & extra.keys()}
        return {**document, **extra, **both}
    if isinstance(document, list) and isinstance(extra, list):
        pairs = [merged(ours, theirs) for ours, theirs in zip(document, extra, strict=False)]
        return pairs + document[len(extra) :]
    return extra


def known_of(fields: dict[str, Json] | None) -> dict[str, Json]:
    """The fields without those that are null, which most wires write for a field that is not there."""
    return {name: value for name, value in (fields or {}).items() if value is not None}


def gather(into: dict[str, Json], more: dict[str, Json]) -> None:
    """Add a chunk's unknown fields: lists go on, objects are merged, of anything else the last one counts."""
    for name, value in more.items():
        known = into.get(name)
        if isinstance(known, list) and isinstance(value, list):
            known += value
        elif isinstance(known, dict) and isinstance(value, dict):
            gather(known, value)
        elif value is not None or known is None:
            into[name] = value
