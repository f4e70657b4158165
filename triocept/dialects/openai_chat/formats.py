"""`response_format`: the required format of the answer's text."""

from __future__ import annotations

from reprlib import repr as short

from ..._canonical.content import Json
from ..._canonical.request import OutputFormat
from ...errors import DialectError
from .._documents import Fields, known_of, merged

_KINDS = ("text", "json_object", "json_schema", "structural_tag", "grammar", "regex", "ebnf")
"""The three types of OpenAI, and those of servers: vLLM and SGLang `structural_tag`, others `grammar`, `regex`,
`ebnf`."""


def parse_format(fields: Fields) -> OutputFormat | None:
    """Return the requested format."""
    return read_format(fields, "response_format", "json_schema")


def read_format(fields: Fields, name: str, inside: str | None) -> OutputFormat | None:
    """Return the format that a field requests; servers' own types stay among the unknown fields.

    Args:
        fields: the fields of the request, or of the object that contains the field.
        name: the field's name.
        inside: the name of the inner field with the schema and its options; None: the field itself holds them.

    Raises:
        DialectError: the type is unknown.
    """
    form = fields.object(name)
    if form is None:
        return None
    kind = form.need_text("type")
    if kind == "json_object":
        return OutputFormat(kind="json_object", extra=form.rest())
    if kind not in _KINDS:
        raise DialectError(
            f"there is no format {short(kind)}: there are {', '.join(_KINDS)}", path=form.at("type")
        )
    if kind != "json_schema":
        rest = {"type": kind, **(form.rest() or {})}
        fields.keep(name, None if rest == {"type": "text"} else rest)
        return None
    inner = form if inside is None else form.need_object(inside)
    title, schema, strict = inner.text("name"), inner.mapping("schema"), inner.flag("strict")
    if inside is not None:
        form.keep(inside, inner.rest())
    return OutputFormat(kind="json_schema", name=title, schema=schema, strict=strict, extra=form.rest())


def render_format(output: OutputFormat, *, same_dialect: bool) -> Json:
    """Return the wire form of a format; its required name is generated if the source has none."""
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        inner = {"name": output.name or "answer", "schema": output.schema, "strict": output.strict}
        document["json_schema"] = known_of(inner)
    return merged(document, output.extra) if same_dialect and output.extra else document
