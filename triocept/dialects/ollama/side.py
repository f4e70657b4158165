"""Calls of Ollama's clients other than model calls: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`, embeddings.

Embeddings are `POST /api/embed`, and the older `/api/embeddings`, which takes one text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..._canonical.content import Json
from ..._canonical.vectors import Vector
from .._documents import Fields, read_text
from ..side import Embeddings, SideCall, SideRoute, read_dimensions


def embeddings(call: SideCall) -> Embeddings:
    """Parse an `/api/embed` call. Raise `DialectError` if the body is invalid.

    The answer to an empty input has no vectors, because programs send an empty input only to load a model.
    """
    fields = Fields(call.document)
    model = fields.need_text("model")
    value = fields.take("input")
    several = value if isinstance(value, list) else ()
    texts = tuple(read_text(item, f"input[{index}]") for index, item in enumerate(several))
    if not isinstance(value, list) and value not in (None, ""):
        texts = (read_text(value, "input"),)

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


def old_embeddings(call: SideCall) -> Embeddings:
    """Parse a call of the older route `/api/embeddings`, which has one text."""
    fields = Fields(call.document)
    model, prompt = fields.need_text("model"), fields.text("prompt")

    def render(vectors: Sequence[Vector], tokens: int) -> Json:
        return {"embedding": list(vectors[0]) if vectors else []}

    return Embeddings(model=model, inputs=(prompt,) if prompt else (), render=render)


_VERSION = "0.12.0"
"""The server version that is reported to clients. Clients refuse a server that is too old."""
_EPOCH = "1970-01-01T00:00:00Z"
_DETAILS: dict[str, Json] = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}
_ABILITIES = ["completion", "embedding", "tools", "thinking", "vision"]


def render_models(names: Sequence[str]) -> Json:
    return {"models": [_model(name) for name in names]}


def is_client(path: str, headers: Mapping[str, str]) -> bool:
    """Return True if a client of Ollama sent the call.

    The path of such a call begins with `/api/`. The path `/api/hello` is excluded, because Claude Code calls this path.
    """
    return path.startswith("/api/") and path != "/api/hello"


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    return {"OLLAMA_HOST": base_url, "OLLAMA_API_KEY": api_key}


def _model(name: str) -> dict[str, Json]:
    return {
        "name": name,
        "model": name,
        "modified_at": _EPOCH,
        "size": 0,
        "digest": "",
        "details": _DETAILS,
    }


def _show(call: SideCall) -> Json:
    fields = Fields(call.document)
    fields.text("model")  # agents may send any model
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _DETAILS,
        "model_info": {},
        "capabilities": _ABILITIES,
        "modified_at": _EPOCH,
    }


SIDE_ROUTES = (
    SideRoute(paths=("/api/tags",), answer=lambda call: render_models([call.model])),
    SideRoute(
        paths=("/api/ps",),
        answer=lambda call: {"models": [{**_model(call.model), "expires_at": _EPOCH, "size_vram": 0}]},
    ),
    SideRoute(paths=("/api/show",), method="POST", answer=_show),
    SideRoute(paths=("/api/version",), answer=lambda _: {"version": _VERSION}),
    SideRoute(paths=("/api/embed",), method="POST", answer=embeddings),
    SideRoute(paths=("/api/embeddings",), method="POST", answer=old_embeddings),
)
NOT_SERVED = tuple(
    f"/api/{name}" for name in ("blobs", "copy", "create", "delete", "generate", "pull", "push")
)
