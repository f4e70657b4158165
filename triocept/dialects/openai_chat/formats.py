"""`response_format`: the shape that the answer's text must have."""

from __future__ import annotations

from reprlib import repr as short

from ..._canonical.content import Json
from ..._canonical.request import OutputFormat
from ...errors import DialectError
from .._documents import Fields, known_of, merged

_KINDS = ("text", "json_object", "json_schema", "structural_tag", "grammar", "regex", "ebnf")
"""OpenAI's three, and what servers add: vLLM and SGLang `structural_tag`, others `grammar`, `regex`, `ebnf`."""


def parse_format(fields: Fields) -> OutputFormat | None:
    """The shape that is asked for."""
    return read_format(fields, "response_format", "json_schema")


def read_format(fields: Fields, name: str, inside: str | None) -> OutputFormat | None:
    """The shape that a field asks for; servers' own types stay among the unknown fields.

    Args:
        fields: those of the request, or of the object that has the field.
        name: the field's.
        inside: the field of it that holds the schema and what goes with it; None: it does so itself.

    Raises:
        DialectError: no server has such a type.
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
    """The wire form of the shape; its name is required, and is made where the source has none."""
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        inner = {"name": output.name or "answer", "schema": output.schema, "strict": output.strict}
        document["json_schema"] = known_of(inner)
    return merged(document, output.extra) if same_dialect and output.extra else document
