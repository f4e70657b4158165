"""`response_format`: the shape that the answer's text must have."""

from __future__ import annotations

from reprlib import repr as short

from ..._canonical.content import Json
from ..._canonical.request import OutputFormat
from ...errors import DialectError
from .._fields import Fields, merged

__all__ = ["KINDS", "parse_format", "render_format"]

KINDS = ("text", "json_object", "json_schema", "structural_tag", "grammar", "regex", "ebnf")
"""OpenAI's three, and what servers add: vLLM and SGLang `structural_tag`, others `grammar`, `regex`, `ebnf`."""


def parse_format(fields: Fields) -> OutputFormat | None:
    """The shape that is asked for; servers' own types stay among the unknown fields.

    Raises:
        DialectError: no server has such a type.
    """
    form = fields.object("response_format")
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
        fields.keep("response_format", None if rest == {"type": "text"} else rest)
        return None
    inner = form.need_object("json_schema")
    name, schema, strict = inner.text("name"), inner.mapping("schema"), inner.flag("strict")
    form.keep("json_schema", inner.rest())
    return OutputFormat(kind="json_schema", name=name, schema=schema, strict=strict, extra=form.rest())


def render_format(output: OutputFormat, *, own: bool) -> Json:
    """The wire form of the shape; its name is required, and is made where the source has none."""
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        inner = {"name": output.name or "answer", "schema": output.schema, "strict": output.strict}
        document["json_schema"] = {name: value for name, value in inner.items() if value is not None}
    return merged(document, output.extra) if own and output.extra else document
