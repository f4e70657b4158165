"""The documents of the side routes: `GET /v1beta/models`, `POST /v1beta/models/{model}:countTokens`."""

from __future__ import annotations

from collections.abc import Iterable

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..base import Target
from .fields import ProtoFields
from .paths import full_model, model_at
from .request import read_request

__all__ = ["match_count", "parse_count_request", "render_models", "render_token_count"]

_METHODS = ["generateContent", "countTokens"]
_INPUT_LIMIT, _OUTPUT_LIMIT = 1_048_576, 65_536  # of Gemini 2.5 and 3


def render_models(names: Iterable[str]) -> Json:
    """The list of models."""
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
    """How many tokens the prompt has."""
    return {"totalTokens": count}


def match_count(path: str) -> str | None:
    """The model whose tokens are to be counted; None where the path is another."""
    return model_at(path, "countTokens")


def parse_count_request(document: Json, target: Target) -> Request:
    """The request whose tokens are to be counted: the document itself, or its `generateContentRequest`.

    Raises:
        DialectError: with the path in the document.
    """
    fields = ProtoFields(document)
    return read_request(fields.object("generateContentRequest") or fields, target)
