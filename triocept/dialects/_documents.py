"""Helpers for JSON bodies of model calls: encoding, checked access to fields, and message content.

The module decodes and encodes JSON, and merges unread fields back into a document. An error about a field contains the
field's path. The content of a message is a string, or a list of parts, such as texts and inline media.

Rules:

1. A field that is null counts as missing.
2. `Fields.rest()` returns the fields that were not read. These fields become the `extra` of the parsed value.
3. The type of a field is checked, but not its value. So every value of an enum is accepted, unless the code that reads
   the field checks the value.
4. Unknown fields in the chunks of a stream are combined. The combined fields equal the fields of an answer that is not
   streamed.
5. Content that is a list of one plain text means the same as a string, and is written as a string. Media are `data:`
   URLs or base64. In some dialects, base64 data have no media type.
6. The argument `same_dialect` of a renderer is True if the value was parsed from the renderer's own dialect. The
   value's `extra` then has the field names of this dialect, so the renderer writes these fields.
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
    r"""Decode JSON text or bytes.

    A lone surrogate (`"\ud83d"`: JavaScript's JSON.stringify writes it if an emoji was cut in two) is read as U+FFFD.

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
        raise DialectError("not valid JSON: the JSON is nested too deeply") from exc


def encode_json(document: Json) -> bytes:
    """Encode a value as JSON. A lone surrogate in a string is written as U+FFFD."""
    try:
        return _encode(document)
    except UnicodeEncodeError:
        return _encode(mended(document))


encode_text = encode_json
"""Alias of `encode_json` for a single string, such as the text of a streamed delta."""


def hides_letters(data: bytes) -> bool:
    """Return True if the JSON could contain escaped ASCII letters or `_`.

    A search for a field's name would miss such a letter. No known serializer escapes letters; serializers that care
    about HTML, such as Go's, escape `<`, `>`, `&`.
    """
    return b"\\u00" in data and _HIDDEN.search(data) is not None


def types_come_first(data: bytes) -> bool:
    """Return True if each field `type` is the first field of its object.

    Then no object has a second `type`, which would override the first `type`.
    """
    return data.count(b'"type"') == data.count(b'{"type"')


_MOST_COUNTED = 2**53
"""The largest integer that every JSON reader reads exactly (RFC 8259, 6). The sum of a few numbers of at most this size
fits in 64 bits.
"""
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def kind_of(value: Json) -> str:
    return next((name for kind, name in _KINDS.items() if isinstance(value, kind)), "a number")


def read_text(value: Json, path: str) -> str:
    if isinstance(value, str):
        return value
    raise DialectError(f"must be a string, not {kind_of(value)}", path=path)


def read_list(value: Json, path: str) -> list[Json]:
    if isinstance(value, list):
        return value
    raise DialectError(f"must be a list, not {kind_of(value)}", path=path)


class Fields:
    """The fields of one JSON object. Reading a field removes the field, so that `rest` returns the unread fields.

    Raises:
        DialectError: the value is not an object. Every method that reads a field also raises this error if the field
            has the wrong type, or if a required field is missing.
    """

    __slots__ = ("_left", "path")

    def __init__(self, value: Json, path: str = "") -> None:
        if not isinstance(value, dict):
            raise DialectError(f"must be an object, not {kind_of(value)}", path=path)
        self._left: dict[str, Json] = dict(value)
        self.path: str = path

    def at(self, name: str) -> str:
        """Return the path of the field `name` in the whole document, for an error message."""
        return f"{self.path}.{name}" if self.path else name

    def peek(self, name: str) -> Json:
        """Return the field without a type check; None if the field is missing. The field still counts as unread."""
        return self._left.get(name)

    def lack(self, names: Iterable[str]) -> bool:
        """Return True if no field in `names` is left in the object: each is missing or was already read."""
        return self._left.keys().isdisjoint(names)

    def take(self, name: str) -> Json:
        """Return the field without a type check; None if the field is missing."""
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
        """Return the field as an int (`5.0` counts as 5); None if the field is missing."""
        value = self.number(name)
        if value is None or value == int(value):
            return value if value is None else int(value)
        raise DialectError("must be a whole number", path=self.at(name))

    def count(self, name: str) -> int | None:
        """Return the field as a token count; None if the field is missing, negative or larger than 2**53."""
        value = self.integer(name)
        return value if value is not None and 0 <= value <= _MOST_COUNTED else None

    def need_integer(self, name: str) -> int:
        value = self.integer(name)
        if value is None:
            raise DialectError("is missing", path=self.at(name))
        return value

    def array(self, name: str) -> list[Json]:
        """Return the field as a list, without checking the items; an empty list if the field is missing."""
        value = self._left.pop(name, None)
        return [] if value is None else read_list(value, self.at(name))

    def items(self, name: str) -> list[tuple[str, Json]]:
        """Return the path and the value of each item of a list; an empty list if the field is missing."""
        value = self._left.pop(name, None)
        if value is None:
            return []
        path = self.at(name)
        return [(f"{path}[{number}]", item) for number, item in enumerate(read_list(value, path))]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the field as a tuple of strings; an empty tuple if the field is missing."""
        return tuple([read_text(value, path) for path, value in self.items(name)])

    def mapping(self, name: str) -> dict[str, Json] | None:
        """Return the field, a JSON object, as a dict; None if the field is missing."""
        value = self._left.pop(name, None)
        if value is None or isinstance(value, dict):
            return value
        raise DialectError(f"must be an object, not {kind_of(value)}", path=self.at(name))

    def object(self, name: str) -> Fields | None:
        """Return the field, a JSON object, as `Fields`; None if the field is missing."""
        value = self._left.pop(name, None)
        return None if value is None else Fields(value, self.at(name))

    def need_object(self, name: str) -> Fields:
        found = self.object(name)
        if found is None:
            raise DialectError("is missing", path=self.at(name))
        return found

    def keep(self, name: str, value: Json) -> None:
        """Store `value` as an unread field `name`. If `value` is empty, do nothing."""
        if value:
            self._left[name] = value

    def mark(self, name: str) -> None:
        """Make `rest` return the field `name` with the value None, to record that the field was present."""
        self._left[name] = None

    def rest(self) -> dict[str, Json] | None:
        """Return the unread fields as a dict; None if all fields were read."""
        return self._left or None


@overload
def merged(document: dict[str, Json], extra: dict[str, Json]) -> dict[str, Json]: ...
@overload
def merged(document: Json, extra: Json) -> Json: ...
def merged(document: Json, extra: Json) -> Json:
    """Return `document` with the values of `extra` merged into it, recursively in objects and lists.

    If both contain a value at the same place, the result contains the value of `extra`.
    """
    if isinstance(document, dict) and isinstance(extra, dict):
        both = {name: merged(document[name], extra[name]) for name in document.keys() & extra.keys()}
        return {**document, **extra, **both}
    if isinstance(document, list) and isinstance(extra, list):
        pairs = [merged(known, more) for known, more in zip(document, extra, strict=False)]
        return pairs + document[len(extra) :]
    return extra


def present(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]


def is_same_dialect(dialect: str, here: str) -> bool:
    """Return True if the `extra` of a response that was parsed from `dialect` may be written in the dialect `here`.

    If `dialect` is empty, the program created the response. The `extra` of such a response may be written in every
    dialect.
    """
    return dialect in ("", here)


def known_of(fields: dict[str, Json] | None) -> dict[str, Json]:
    """Return `fields` without the fields that are None, because most APIs write null for a missing field."""
    return {name: value for name, value in (fields or {}).items() if value is not None}


def gather(into: dict[str, Json], more: dict[str, Json]) -> None:
    """Add the fields of a chunk, `more`, to `into`: append to lists, merge objects, and overwrite other values."""
    for name, value in more.items():
        known = into.get(name)
        if isinstance(known, list) and isinstance(value, list):
            known += value
        elif isinstance(known, dict) and isinstance(value, dict):
            gather(known, value)
        elif value is not None or known is None:
            into[name] = value


def text_in(fields: Fields, name: str, inner: str) -> str | None:
    """Return the string in the field `inner` of the object in the field `name`.

    Return None if there is no such object or string. The object's other fields stay unread.
    """
    found = fields.object(name)
    if found is None:
        return None
    text = found.text(inner)
    fields.keep(name, found.rest())
    return text


def need_items(fields: Fields, name: str) -> list[Json]:
    """Return the list in the field `name`, without a check of its items.

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
    """Return the `Message` for `value` if `value` has only a `role` from `roles` and a text `content`; else None.

    Most messages are of this form, so parsers of messages call this function first, as a fast path.
    """
    if type(value) is not dict or len(value) != 2:
        return None
    role, text = value.get("role"), value.get("content")
    if type(role) is not str or type(text) is not str or role not in roles:
        return None
    return Message(roles[role], (Text(text),) if text else ())


def parse_content(value: Json, path: str, parse_part: Callable[[Json, str], Part]) -> tuple[Part, ...]:
    """Convert a `content` field (a string, a list or None) into parts; `parse_part` converts each list item."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple([parse_part(item, f"{path}[{number}]") for number, item in enumerate(value)])
    text = read_text(value, path)
    return (Text(text),) if text else ()


def in_result(parts: Iterable[Part], value: Json, dialect: str) -> tuple[Text | Media | Opaque, ...]:
    """Return `parts` as the content of a `ToolResult`. A part that a result cannot contain becomes an `Opaque`.

    `value` is the JSON list from which the parts were parsed. The `Opaque` contains the item of this list from which
    its part was parsed.
    """
    return tuple(
        part if isinstance(part, Text | Media | Opaque) else Opaque(dialect, value[number])
        for number, part in enumerate(parts)
    )


def as_content(documents: Sequence[dict[str, Json]], kind: str = "text") -> Json:
    """Return the value of a `content` field: the list `documents`, or a string if the list is one plain text.

    A plain text part is an object with only two fields: its `type`, which is `kind`, and its text. For an empty list,
    return an empty string.
    """
    if not documents:
        return ""
    if len(documents) == 1 and documents[0].keys() == {"type", "text"} and documents[0]["type"] == kind:
        return documents[0]["text"]
    return documents


def as_error(content: Json, kind: str = "text") -> Json:
    """Return the `content` of a failed tool's result, with "Error:" before it.

    The renderer of an API that cannot mark a failure calls this function.
    """
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
    """Return the media type (or None) and the base64 text of a `data:` URL; return None for any other URL."""
    if url[:5].lower() != "data:":
        return None
    found = _DATA_URL.match(url)
    return (found[1] or None, url[found.end() :]) if found else None


def media_type_of(media: Media) -> str:
    """Return the media type that `media` declares.

    If no media type is declared, guess the media type from the first bytes of the data. If these bytes are unknown,
    return the most common type for an image, a sound or a file.
    """
    if media.media_type:
        return media.media_type
    data = media.data or ""
    return next((name for magic, name in _MAGIC if data.startswith(magic)), _DEFAULTS[media.kind])


def data_url(media: Media) -> str | None:
    """Return the URL of `media`.

    If `media` has only data, return a `data:` URL; if `media` has neither a URL nor data, return None.
    """
    if media.url is not None or media.data is None:
        return media.url
    return f"data:{media_type_of(media)};base64,{media.data}"
