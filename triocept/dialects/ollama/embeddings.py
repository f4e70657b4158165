"""`POST /api/embed`, and the older `/api/embeddings`, which takes one text."""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.content import Json
from ..._canonical.vectors import Vector
from .._beside import Embeddings, read_dimensions
from .._documents import Fields, read_text
from ..side import SideCall


def embeddings(call: SideCall) -> Embeddings:
    """Return the parsed embeddings call; raise `DialectError` with the path in the document.

    An empty input has no vectors: programs send it to load a model.
    """
    fields = Fields(call.document)
    model = fields.need_text("model")
    said = fields.take("input")
    texts = _texts(said)

    def render(vectors: Sequence[Vector], tokens: int) -> Json:
        return {
            "model": model,
            "embeddings": [list(vector) for vector in vectors],
            "total_duration": 0,
            "load_duration": 0,
            "prompt_eval_count": tokens,
        }

    return Embeddings(
        model=model, inputs=texts, dimensions=read_dimensions(fields, "dimensions"), render=render
    )


def _texts(value: Json) -> tuple[str, ...]:
    """Return the texts of an input, which is one text or several."""
    if value is None or value == "":
        return ()
    if isinstance(value, list):
        return tuple(read_text(item, f"input[{index}]") for index, item in enumerate(value))
    return (read_text(value, "input"),)


def old_embeddings(call: SideCall) -> Embeddings:
    """Return the parsed embeddings call of the older route."""
    fields = Fields(call.document)
    model, prompt = fields.need_text("model"), fields.text("prompt")

    def render(vectors: Sequence[Vector], tokens: int) -> Json:
        return {"embedding": list(vectors[0]) if vectors else []}

    return Embeddings(model=model, inputs=(prompt,) if prompt else (), render=render)
