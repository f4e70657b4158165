"""`text`: the shape that the answer's text must have; what else it says (`verbosity`) is kept."""

from __future__ import annotations

from ..._canonical.content import Json
from ..._canonical.request import OutputFormat
from .._documents import Fields, known_of, merged
from ..openai_chat.formats import read_format


def parse_format(fields: Fields) -> OutputFormat | None:
    """The shape that is asked for; servers' own types stay among the unknown fields.

    Raises:
        DialectError: no server has such a type.
    """
    text = fields.object("text")
    if text is None:
        return None
    output = read_format(text, "format", None)
    fields.keep("text", text.rest())
    return output


def render_format(output: OutputFormat, *, same_dialect: bool) -> Json:
    """The wire form of the shape; its name is required, and is made where the source has none."""
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        inner = {"name": output.name or "answer", "schema": output.schema or {}, "strict": output.strict}
        document |= known_of(inner)
    return merged(document, output.extra) if same_dialect and output.extra else document
