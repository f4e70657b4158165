"""Results of tools: `functionResponse`, whose `response` is an object.

Rules:

1. A text under one key (`output` and `error` are Google's keys, `result` that of its Python SDK) is the result's text;
   any other object becomes its JSON. `error` alone means that the tool failed. Vercel's AI SDK repeats the tool's
   `name` beside its text, which is its `content`.
2. The form is marked in `extra`, with null in place of the text, so that the same form is written again.
3. Media of a result are in its `parts`. Media of another dialect's result come after all results of the turn, for only
   the newest models accept `parts`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..._canonical.content import Json, Media, Opaque, Part, Text, ToolResult
from ...errors import DialectError
from .._documents import decode_json, encode_json, merged
from .._pairing import MADE
from .fields import ProtoFields
from .names import NAME

_OUTPUT, _ERROR = "output", "error"
_FIELD, _RESPONSE = "functionResponse", "response"
_UNNAMED = "unknown_function"  # the wire requires a name


def parse_result(fields: ProtoFields, parse_part: Callable[[Json, str], Part]) -> ToolResult:
    """Return the result of a `functionResponse` part."""
    inner = fields.need_object(_FIELD)
    identity, name = inner.text("id") or "", inner.text("name")
    response = inner.mapping(_RESPONSE) or {}
    text, mark = _parse_response(response, name)
    content: list[Text | Media | Opaque] = [Text(text)] if text else []
    for path, item in inner.each("parts"):
        part = parse_part(item, path)
        content.append(part if isinstance(part, Text | Media | Opaque) else Opaque(NAME, item))
    rest = dict(inner.rest() or {})
    if mark is not _PLAIN:
        rest[_RESPONSE] = mark
    fields.keep(_FIELD, rest)
    is_error = response.keys() == {_ERROR}
    return ToolResult(id=identity, content=tuple(content), is_error=is_error, name=name, extra=fields.rest())


def render_result(
    result: ToolResult, name: str | None, render: Callable[[Part], Json | None], *, same_dialect: bool
) -> dict[str, Json]:
    """Return a `functionResponse` part.

    Args:
        result: the result to write.
        name: the name of the called tool.
        render: returns the wire form of a part of the result.
        same_dialect: True if the result's `extra` uses this dialect's field names.
    """
    extra = dict(result.extra or {}) if same_dialect else {}
    kept = dict(extra.pop(_FIELD, None) or {}) if isinstance(extra.get(_FIELD), dict) else {}
    mark = kept.pop(_RESPONSE, _PLAIN)
    inner: dict[str, Json] = {} if not result.id or result.id.startswith(MADE) else {"id": result.id}
    inner["name"] = result.name or name or _UNNAMED
    inner[_RESPONSE] = _render_response(result, mark)
    if same_dialect:
        parts = [wire for part in result.content if not isinstance(part, Text) and (wire := render(part))]
        if parts:
            inner["parts"] = parts
    both: dict[str, Json] = merged({_FIELD: merged(inner, kept)}, extra)
    return both


_PLAIN = object()  # no mark: the text has Google's own key


def _parse_response(response: dict[str, Json], name: str | None) -> tuple[str, Json]:
    """Return the text of a result, and the mark of its form."""
    if not response:
        return "", {}
    if len(response) == 1:
        ((key, value),) = response.items()
        if isinstance(value, str):
            return value, _PLAIN if value and key in (_OUTPUT, _ERROR) else {key: None}
    match response:
        case {"name": str(repeated), "content": str(value)} if len(response) == 2 and repeated == name:
            return value, {"name": name, "content": None}
    return encode_json(response).decode(), None


def _render_response(result: ToolResult, mark: Json) -> dict[str, Json]:
    text = result.text
    if mark is None:
        try:
            whole = decode_json(text)
        except DialectError:
            whole = None
        if isinstance(whole, dict):
            return whole
    if mark == {} and not text:
        return {}
    if isinstance(mark, dict) and mark and not result.is_error:
        return {key: text if value is None else value for key, value in mark.items()}
    if not text and any(not isinstance(part, Text) for part in result.content):
        text = "(see below)"
    return {_ERROR if result.is_error else _OUTPUT: text}
