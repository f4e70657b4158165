"""`text`: the shape that the answer's text must have; what else it says (`verbosity`) is kept."""

from __future__ import annotations

from reprlib import repr as short

from ..._canonical.content import Json
from ..._canonical.request import OutputFormat
from ...errors import DialectError
from .._fields import Fields, merged
from ..openai_chat.formats import KINDS

__all__ = ["parse_format", "render_format"]


def parse_format(fields: Fields) -> OutputFormat | None:
    """The shape that is asked for; servers' own types stay among the unknown fields.

    Raises:
        DialectError: no server has such a type.
    """
    text = fields.object("text")
    if text is None:
        return None
    output = _parse(text)
    fields.keep("text", text.rest())
    return output


def render_format(output: OutputFormat, *, own: bool) -> Json:
    """The wire form of the shape; its name is required, and is made where the source has none."""
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        inner = {"name": output.name or "answer", "schema": output.schema or {}, "strict": output.strict}
        document |= {name: value for name, value in inner.items() if value is not None}
    return merged(document, output.extra) if own and output.extra else document


def _parse(text: Fields) -> OutputFormat | None:
    form = text.object("format")
    if form is None:
        return None
    kind = form.need_text("type")
    if kind == "json_object":
        return OutputFormat(kind="json_object", extra=form.rest())
    if kind not in KINDS:
        raise DialectError(
            f"there is no format {short(kind)}: there are {', '.join(KINDS)}", path=form.at("type")
        )
    if kind != "json_schema":
        rest = {"type": kind, **(form.rest() or {})}
        text.keep("format", None if rest == {"type": "text"} else rest)
        return None
    name, schema, strict = form.text("name"), form.mapping("schema"), form.flag("strict")
    return OutputFormat(kind="json_schema", name=name, schema=schema, strict=strict, extra=form.rest())
