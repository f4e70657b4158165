"""Calls other than model calls (`GET /v1beta/models`, token counts, embeddings), and recognition of clients.

The paths are `/v1beta/models/{model}:countTokens`, `:embedContent` and `:batchEmbedContents`. Google's SDK calls
`:batchEmbedContents` even for one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..._canonical.vectors import Vector
from ...errors import DialectError
from ..base import Target
from ..side import CountCalls, Embeddings, SideCall, SideRoute, TokenCount, counted_by, only, read_dimensions
from .parts import ProtoFields
from .request import bare_model, full_model, read_request

# google-genai 3 uses v1 by default, gemini-cli v1beta.
_VERSION = "/<any(v1, v1beta, v1alpha):version>"
_COUNTED = ("contents", "systemInstruction", "tools", "toolConfig")

_METHODS = ["generateContent", "countTokens", "embedContent"]
_INPUT_LIMIT, _OUTPUT_LIMIT = 1_048_576, 65_536  # limits of Gemini 2.5 and 3


def render_models(names: Iterable[str]) -> Json:
    models = [
        {
            "name": full_model(name),
            "version": "001",
            "displayName": name,
            "inputTokenLimit": _INPUT_LIMIT,
            "outputTokenLimit": _OUTPUT_LIMIT,
            "supportedGenerationMethods": _METHODS,
        }
        for name in names
    ]
    return {"models": models}


def render_token_count(count: int) -> Json:
    return {"totalTokens": count}


def parse_count_request(document: Json, target: Target) -> Request:
    fields = ProtoFields(document)
    return read_request(fields.object("generateContentRequest") or fields, target)


def is_client(path: str, headers: Mapping[str, str]) -> bool:
    """Return True if a client of Gemini's API sent the call.

    Such a call has the header `x-goog-api-key`, or a path that begins with `/v1beta/`, `/v1alpha/` or `/upload/`.
    """
    return "x-goog-api-key" in headers or path.startswith(("/v1beta/", "/v1alpha/", "/upload/"))


def key_headers(api_key: str) -> dict[str, str]:
    return {"x-goog-api-key": api_key}


def count_tokens(model: str, document: Json) -> CountCalls:
    name = full_model(model)
    asked = {"generateContentRequest": {"model": name, **only(document, _COUNTED)}}
    return counted_by(f"/v1beta/{quote(name)}:countTokens", asked, "totalTokens")


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    return {"GOOGLE_GEMINI_BASE_URL": base_url, "GEMINI_API_KEY": api_key, "GOOGLE_API_KEY": api_key}


_MOST_INPUTS = 100
"""Maximum number of texts in one call for embeddings, according to the text of Google's error."""


def embeddings(call: SideCall) -> Embeddings:
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
    """Parse a `:batchEmbedContents` call, which has several texts. Raise `DialectError` if the body is invalid."""
    items = ProtoFields(call.document).items("requests")
    if not items:
        raise DialectError("must not be empty", path="requests")
    if len(items) > _MOST_INPUTS:
        raise DialectError(f"has {len(items)} items; the maximum is {_MOST_INPUTS}", path="requests")
    asked = [ProtoFields(value, path) for path, value in items]
    sizes = [(read_dimensions(fields, "outputDimensionality"), fields.path) for fields in asked]
    for size, path in sizes:
        if size != sizes[0][0]:
            raise DialectError(
                "must equal the value in the first request", path=f"{path}.outputDimensionality"
            )

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
            raise DialectError("must be text: other content cannot be embedded", path=path)
    if not (said := "\n".join(text for text in texts if text)):
        raise DialectError("must not be empty", path=content.at("parts"))
    return said


_MODEL = f"{_VERSION}/models/<path:model>"
SIDE_ROUTES = (
    SideRoute(
        paths=(f"{_MODEL}:countTokens",),
        method="POST",
        answer=lambda call: TokenCount(
            request=parse_count_request(call.document, Target(model=call.names["model"])),
            render=render_token_count,
        ),
    ),
    SideRoute(paths=(f"{_MODEL}:embedContent",), method="POST", answer=embeddings),
    SideRoute(paths=(f"{_MODEL}:batchEmbedContents",), method="POST", answer=batch_embeddings),
)
NOT_SERVED = (
    f"/upload{_VERSION}/files",
    *(
        f"{_VERSION}/{name}"
        for name in ("batches", "cachedContents", "files", "fileSearchStores", "tunedModels")
    ),
    *(f"{_MODEL}:{verb}" for verb in ("asyncBatchEmbedContent", "batchGenerateContent")),
    *(f"{_MODEL}:{verb}" for verb in ("predict", "predictLongRunning")),
)
