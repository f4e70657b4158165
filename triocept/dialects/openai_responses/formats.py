"""`text`: the required format of the answer's text; other fields (`verbosity`) are kept."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.request import OutputFormat
from .._documents import Fields, known_of, merged
from ..openai_chat.formats import read_format


def parse_format(fields: Fields) -> OutputFormat | None:
    """Return the requested format; servers' own types stay among the unknown fields.

    Raises:
        DialectError: the type is unknown.
    """
    text = fields.object("text")
    if text is None:
        return None
    output = read_format(text, "format", None)
    fields.keep("text", text.rest())
    return output


def render_format(output: OutputFormat, *, same_dialect: bool) -> Json:
    """Return the wire form of a format; its required name is generated if the source has none."""
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        inner = {"name": output.name or "answer", "schema": output.schema or {}, "strict": output.strict}
        document |= known_of(inner)
    return merged(document, output.extra) if same_dialect and output.extra else document
