"""Wire documents: their bytes, their fields, and the content in them.

The module decodes and encodes JSON, reads fields with errors that carry a path, and merges unread fields back into a
document. Content is a string or a list of parts, as on most wires, with inline media in it.

Rules:

1. A field that is null counts as missing.
2. A field that a reader takes counts as understood; `rest()` returns the others, which become an `extra`.
3. Types are checked, values are not: every enum is open unless its reader restricts it.
4. Unknown fields of the chunks of a stream are gathered into the form that a whole answer has.
5. A list of one plain text equals the string, and is written as the string. Media are `data:` URLs, or base64 whose
   media type is missing on some wires.
6. A renderer's `same_dialect` is True if the value came in its dialect, so that `extra` has the wire's field names and
   is written again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, overload

import msgspec

from .._canonical.content import Json, Media, Message, Opaque, Part, Role, Text
from .._util.unicode import mended
from ..errors import DialectError

T = TypeVar("T")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_HIDDEN = re.compile(rb"\\u00[4-7]")


def decode_json(data: bytes | str) -> Json:
    r"""Return the decoded document.

    A lone surrogate (`"\ud83d"`: JavaScript's JSON.stringify writes one where an emoji was cut) is read as U+FFFD.

    Raises:
        DialectError: the bytes are not JSON.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeError) as exc:
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
        repaired = _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], raw)
        try:
            if repaired != raw:
                return _decode(repaired)
        except (msgspec.DecodeError, UnicodeError):
            pass
        raise DialectError(f"not valid JSON: {exc}") from exc
    except RecursionError as exc:
        raise DialectError("not valid JSON: it is nested too deeply") from exc


def encode_json(document: Json) -> bytes:
    """Return the bytes of a document."""
    try:
        return _encode(document)
    except UnicodeEncodeError:
        return _encode(mended(document))


encode_text = encode_json
"""Alias for a single string: the hot path of every streamed delta."""


def hides_letters(data: bytes) -> bool:
    """Return True if the JSON may contain an escaped ASCII letter or `_`: then a search for a field's name can fail.

    No known serializer escapes letters; serializers that care about HTML, such as Go's, escape `<`, `>`, `&`.
    """
    return b"\\u00" in data and _HIDDEN.search(data) is not None


def types_come_first(data: bytes) -> bool:
    """Return True if each `type` is the first field of its object, so that no object has two: the last would count."""
    return data.count(b'"type"') == data.count(b'{"type"')


_MOST_COUNTED = 2**53
"""The largest integer that every JSON reader keeps (RFC 8259, 6); sums of a few such numbers fit a file's 64 bits."""
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def kind_of(value: Json) -> str:
    """Return JSON's name of the type of this value."""
    return _KINDS.get(type(value), "a number")


def read_text(value: Json, path: str) -> str:
    """Return `value`, which must be a string."""
    if isinstance(value, str):
        return value
    raise DialectError(f"must be a string, not {kind_of(value)}", path=path)


def read_list(value: Json, path: str) -> list[Json]:
    """Return `value`, which must be a list."""
    if isinstance(value, list):
        return value
    raise DialectError(f"must be a list, not {kind_of(value)}", path=path)


class Fields:
    """The fields of one wire object, taken one by one.

    Raises:
        DialectError: the value is not an object; every reader raises it for a field of the wrong type or a missing
            one.
    """

    __slots__ = ("_left", "path")

    def __init__(self, value: Json, path: str = "") -> None:
        if not isinstance(value, dict):
            raise DialectError(f"must be an object, not {kind_of(value)}", path=path)
        self._left: dict[str, Json] = dict(value)
        self.path: str = path

    def at(self, name: str) -> str:
        """Return the path of the field `name`."""
        return f"{self.path}.{name}" if self.path else name

    def peek(self, name: str) -> Json:
        """Return the field as it is, and leave it in place."""
        return self._left.get(name)

    def take(self, name: str) -> Json:
        """Return the field as it is; None if it is missing."""
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
        """Return a whole number; `5.0` is one."""
        value = self.number(name)
        if value is None or value == int(value):
            return value if value is None else int(value)
        raise DialectError("must be a whole number", path=self.at(name))

    def count(self, name: str) -> int | None:
        """Return a number of tokens; None if it is negative, or implausibly large."""
        value = self.integer(name)
        return value if value is not None and 0 <= value <= _MOST_COUNTED else None

    def need_integer(self, name: str) -> int:
        value = self.integer(name)
        if value is None:
            raise DialectError("is missing", path=self.at(name))
        return value

    def array(self, name: str) -> list[Json]:
        """Return a list as it is; an empty one if it is missing."""
        value = self._left.pop(name, None)
        return [] if value is None else read_list(value, self.at(name))

    def items(self, name: str) -> list[tuple[str, Json]]:
        """Return the items of a list, each with its path; no items if the list is missing."""
        value = self._left.pop(name, None)
        if value is None:
            return []
        path = self.at(name)
        return [(f"{path}[{number}]", item) for number, item in enumerate(read_list(value, path))]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple([read_text(value, path) for path, value in self.items(name)])

    def mapping(self, name: str) -> dict[str, Json] | None:
        """Return an object as it is."""
        value = self._left.pop(name, None)
        if value is None or isinstance(value, dict):
            return value
        raise DialectError(f"must be an object, not {kind_of(value)}", path=self.at(name))

    def object(self, name: str) -> Fields | None:
        """Return an object as `Fields`."""
        value = self._left.pop(name, None)
        return None if value is None else Fields(value, self.at(name))

    def need_object(self, name: str) -> Fields:
        found = self.object(name)
        if found is None:
            raise DialectError("is missing", path=self.at(name))
        return found

    def keep(self, name: str, value: Json) -> None:
        """Put an unread `value` back under `name`; do nothing if it is empty."""
        if value:
            self._left[name] = value

    def mark(self, name: str) -> None:
        """Leave `name` in `rest()` as null, as a mark that the field was present."""
        self._left[name] = None

    def rest(self) -> dict[str, Json] | None:
        """Return the fields that were not taken, or None."""
        return self._left or None


@overload
def merged(document: dict[str, Json], extra: dict[str, Json]) -> dict[str, Json]: ...
@overload
def merged(document: Json, extra: Json) -> Json: ...
def merged(document: Json, extra: Json) -> Json:
    """Return `document` with the fields of `extra`, merged object by object and item by item; `extra` wins."""
    if isinstance(document, dict) and isinstance(extra, dict):
        both = {name: merged(document[name], extra[name]) for name in document.keys() & extra.keys()}
        return {**document, **extra, **both}
    if isinstance(document, list) and isinstance(extra, list):
        pairs = [merged(known, more) for known, more in zip(document, extra, strict=False)]
        return pairs + document[len(extra) :]
    return extra


def present(values: Iterable[T | None]) -> list[T]:
    """Return the values that are not None."""
    return [value for value in values if value is not None]


def is_same_dialect(dialect: str, here: str) -> bool:
    """Return True if the `extra` of a response in `dialect` may be written in the dialect `here`.

    The dialect "" is a program's own response: its `extra` may be written in every dialect.
    """
    return dialect in ("", here)


def known_of(fields: dict[str, Json] | None) -> dict[str, Json]:
    """Return the fields without nulls, which most wires write for missing fields."""
    return {name: value for name, value in (fields or {}).items() if value is not None}


def gather(into: dict[str, Json], more: dict[str, Json]) -> None:
    """Add a chunk's unknown fields: append lists, merge objects, and keep the last of any other values."""
    for name, value in more.items():
        known = into.get(name)
        if isinstance(known, list) and isinstance(value, list):
            known += value
        elif isinstance(known, dict) and isinstance(value, dict):
            gather(known, value)
        elif value is not None or known is None:
            into[name] = value


def text_in(fields: Fields, name: str, inner: str) -> str | None:
    """Return the string `inner` in the object `name`; the object's other fields stay among the unknown fields."""
    found = fields.object(name)
    if found is None:
        return None
    text = found.text(inner)
    fields.keep(name, found.rest())
    return text


def need_items(fields: Fields, name: str) -> list[Json]:
    """Return a list as it is.

    Raises:
        DialectError: the list is missing, or empty.
    """
    if fields.peek(name) is None:
        raise DialectError("is missing", path=fields.at(name))
    items = fields.array(name)
    if not items:
        raise DialectError("must not be empty", path=fields.at(name))
    return items


def plain_message(value: Json, roles: Mapping[str, Role]) -> Message | None:
    """Return a message that has one of these roles, a text and nothing else, as most do; None for any other value."""
    if type(value) is not dict or len(value) != 2:
        return None
    role, text = value.get("role"), value.get("content")
    if type(role) is not str or type(text) is not str or role not in roles:
        return None
    return Message(roles[role], (Text(text),) if text else ())


def parse_content(value: Json, path: str, parse_part: Callable[[Json, str], Part]) -> tuple[Part, ...]:
    """Return the parts of a `content`, which may be missing, a string or a list."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple([parse_part(item, f"{path}[{number}]") for number, item in enumerate(value)])
    text = read_text(value, path)
    return (Text(text),) if text else ()


def in_result(parts: Iterable[Part], value: Json, dialect: str) -> tuple[Text | Media | Opaque, ...]:
    """Return the parts of a tool's result, parsed from `value`; a part that a result cannot hold becomes `Opaque`."""
    return tuple(
        part if isinstance(part, Text | Media | Opaque) else Opaque(dialect, value[number])
        for number, part in enumerate(parts)
    )


def as_content(documents: Sequence[dict[str, Json]], kind: str = "text") -> Json:
    """Return rendered parts as a `content`; `kind` is the `type` of a text part."""
    if not documents:
        return ""
    if len(documents) == 1 and documents[0].keys() == {"type", "text"} and documents[0]["type"] == kind:
        return documents[0]["text"]
    return documents


def as_error(content: Json, kind: str = "text") -> Json:
    """Return the `content` of a failed tool's result, for a wire without a field for the failure."""
    return f"Error: {content}" if isinstance(content, str) else [{"type": kind, "text": "Error:"}, *content]


_DATA_URL = re.compile(r"data:([^,]*?);base64,", re.IGNORECASE)
_MAGIC = (
    ("/9j/", "image/jpeg"),
    ("iVBOR", "image/png"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBER", "application/pdf"),
)
_DEFAULTS = {"image": "image/png", "audio": "audio/wav", "file": "application/octet-stream"}


def split_data_url(url: str) -> tuple[str | None, str] | None:
    """Return media type (or None) and base64 of a `data:` URL; None for any URL without base64."""
    if url[:5].lower() != "data:":
        return None
    found = _DATA_URL.match(url)
    return (found[1] or None, url[found.end() :]) if found else None


def media_type_of(media: Media) -> str:
    """Return the media type: the declared one, the one of the first bytes, or the usual one of the kind."""
    if media.media_type:
        return media.media_type
    data = media.data or ""
    return next((name for magic, name in _MAGIC if data.startswith(magic)), _DEFAULTS[media.kind])


def data_url(media: Media) -> str | None:
    """Return the URL of the medium, or its data as a `data:` URL; None if it has neither."""
    if media.url is not None or media.data is None:
        return media.url
    return f"data:{media_type_of(media)};base64,{media.data}"
