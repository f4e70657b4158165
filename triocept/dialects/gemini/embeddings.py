"""`POST /v1beta/models/{model}:embedContent`, and `:batchEmbedContents`, which the SDK calls even for one text."""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.content import Json
from ..._canonical.vectors import Vector
from ...errors import DialectError
from .._beside import Embeddings, read_dimensions
from ..side import SideCall
from .fields import ProtoFields
from .paths import bare_model

_MOST_INPUTS = 100
"""Maximum texts of one call, from Google's error."""


def embeddings(call: SideCall) -> Embeddings:
    """Return the parsed embeddings call for one text; raise `DialectError` with the path in the document."""
    fields = ProtoFields(call.document)

    def render(vectors: Sequence[Vector], tokens: int) -> Json:
        return {"embedding": {"values": list(vectors[0])}, "usageMetadata": _usage(tokens)}

    return Embeddings(
        model=bare_model(call.names["model"]),
        inputs=(_text(fields),),
        dimensions=read_dimensions(fields, "outputDimensionality"),
        render=render,
    )


def batch_embeddings(call: SideCall) -> Embeddings:
    """Return the parsed embeddings call for several texts; raise `DialectError` with the path in the document."""
    items = ProtoFields(call.document).items("requests")
    if not items:
        raise DialectError("must not be empty", path="requests")
    if len(items) > _MOST_INPUTS:
        raise DialectError(f"has {len(items)} items, and {_MOST_INPUTS} are the most", path="requests")
    asked = [ProtoFields(value, path) for path, value in items]
    sizes = [(read_dimensions(fields, "outputDimensionality"), fields.path) for fields in asked]
    for size, path in sizes:
        if size != sizes[0][0]:
            raise DialectError("must be that of the first", path=f"{path}.outputDimensionality")

    def render(vectors: Sequence[Vector], tokens: int) -> Json:
        values: list[Json] = [{"values": list(vector)} for vector in vectors]
        return {"embeddings": values, "usageMetadata": _usage(tokens)}

    return Embeddings(
        model=bare_model(call.names["model"]),
        inputs=tuple(_text(fields) for fields in asked),
        dimensions=sizes[0][0],
        render=render,
    )


def _usage(tokens: int) -> dict[str, Json]:
    return {"promptTokenCount": tokens}


def _text(fields: ProtoFields) -> str:
    content = fields.need_object("content")
    parts = [(path, ProtoFields(value, path)) for path, value in content.items("parts")]
    texts = [part.text("text") for _, part in parts]
    for (path, _), text in zip(parts, texts, strict=True):
        if text is None:
            raise DialectError("is no text, and only text is embedded here", path=path)
    if not (said := "\n".join(text for text in texts if text)):
        raise DialectError("must not be empty", path=content.at("parts"))
    return said
