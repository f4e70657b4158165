"""`POST /v1/embeddings`: a vector for each text, or for each list of token ids."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from ..._canonical.content import Json
from ..._canonical.vectors import Embedded, Vector
from ...errors import DialectError
from .._beside import Embeddings, read_dimensions
from .._documents import Fields, kind_of
from ..side import SideCall

_FORMATS = ("float", "base64")
_MOST_INPUTS = 2048
"""Maximum inputs of one call, from OpenAI's reference."""


def embeddings(call: SideCall) -> Embeddings:
    """Return the parsed embeddings call; raise `DialectError` with the path in the document."""
    fields = Fields(call.document)
    model = fields.need_text("model")
    encoding = fields.text("encoding_format") or "float"
    if encoding not in _FORMATS:
        raise DialectError(f"must be {' or '.join(_FORMATS)}, not {encoding!r}", path="encoding_format")

    def render(vectors: Sequence[Vector], tokens: int) -> Json:
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if encoding == "base64" else list(vector),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": model, "usage": usage}

    return Embeddings(
        model=model,
        inputs=_inputs(fields.take("input")),
        dimensions=read_dimensions(fields, "dimensions"),
        render=render,
    )


def _packed(vector: Vector) -> str:
    """Return little-endian floats of four bytes in base64, the encoding that OpenAI's SDKs request by default."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _inputs(value: Json) -> tuple[Embedded, ...]:
    """Return the inputs; one list of numbers is one input."""
    if value is None:
        raise DialectError("is missing", path="input")
    if not isinstance(value, list) or (value and all(_is_token(item) for item in value)):
        return (_input(value, "input"),)
    if not value:
        raise DialectError("must not be empty", path="input")
    if len(value) > _MOST_INPUTS:
        raise DialectError(f"has {len(value):,} items, and {_MOST_INPUTS:,} are the most", path="input")
    return tuple(_input(item, f"input[{index}]") for index, item in enumerate(value))


def _input(value: Json, path: str) -> Embedded:
    if not isinstance(value, str | list):
        raise DialectError(f"must be a string or a list of tokens, not {kind_of(value)}", path=path)
    if not value:
        raise DialectError("must not be empty", path=path)
    if isinstance(value, str):
        return value
    for index, token in enumerate(value):
        if not _is_token(token):
            raise DialectError(
                f"must be a token, a whole number, not {kind_of(token)}", path=f"{path}[{index}]"
            )
    return tuple(value)


def _is_token(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
