"""Calls other than model calls: `GET /v1beta/models`, token counts, embeddings; recognition of Google's clients.

Tokens are counted with `POST /v1beta/models/{model}:countTokens`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..base import Target
from ..side import CountCalls, SideCall, SideRoute, TokenCount, counted_by, only
from .embeddings import batch_embeddings, embeddings
from .fields import ProtoFields
from .paths import full_model, model_at
from .request import read_request

# google-genai 3 uses v1 by default, gemini-cli v1beta.
_VERSION = "/<any(v1, v1beta, v1alpha):version>"
_COUNTED = ("contents", "systemInstruction", "tools", "toolConfig")

_METHODS = ["generateContent", "countTokens", "embedContent"]
_INPUT_LIMIT, _OUTPUT_LIMIT = 1_048_576, 65_536  # limits of Gemini 2.5 and 3


def render_models(names: Iterable[str]) -> Json:
    """Return the list of models."""
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
    """Return the document with the token count of a prompt."""
    return {"totalTokens": count}


def match_count(path: str) -> str | None:
    """Return the model in the path of a token count; None for another path."""
    return model_at(path, "countTokens")


def parse_count_request(document: Json, target: Target) -> Request:
    """Return the request whose tokens are counted: the document itself, or its `generateContentRequest`.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
    """
    fields = ProtoFields(document)
    return read_request(fields.object("generateContentRequest") or fields, target)


def is_client(path: str, headers: Mapping[str, str]) -> bool:
    """Return True if the client is Google's, by the header of its key or the versions in its paths."""
    return "x-goog-api-key" in headers or path.startswith(("/v1beta/", "/v1alpha/", "/upload/"))


def key_headers(api_key: str) -> dict[str, str]:
    """Return the header with a key."""
    return {"x-goog-api-key": api_key}


def count_tokens(model: str, document: Json) -> CountCalls:
    """Yield the call that counts tokens; see `Dialect.count_tokens`."""
    name = full_model(model)
    asked = {"generateContentRequest": {"model": name, **only(document, _COUNTED)}}
    return counted_by(f"/v1beta/{quote(name)}:countTokens", asked, "totalTokens")


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    """Return the environment variables of agents; see `Dialect.environment`."""
    return {"GOOGLE_GEMINI_BASE_URL": base_url, "GEMINI_API_KEY": api_key, "GOOGLE_API_KEY": api_key}


def _count(call: SideCall) -> TokenCount:
    request = parse_count_request(call.document, Target(model=call.names["model"]))
    return TokenCount(request=request, render=render_token_count)


_MODEL = f"{_VERSION}/models/<path:model>"
SIDE_ROUTES = (
    SideRoute(paths=(f"{_MODEL}:countTokens",), method="POST", answer=_count),
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
