"""Environment variables for agents, and calls other than model calls: token counts, embeddings, moderations.

OpenAI's API has no call that counts the tokens of messages. vLLM has a route `/tokenize`, which accepts messages.
llama.cpp has `/apply-template`, which returns the prompt for messages, and `/tokenize`, which accepts the prompt.

`POST /v1/embeddings` returns a vector for each text, or for each list of token ids. `POST /v1/moderations` accepts one
text, several texts, or one input that consists of texts and images.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from ..._canonical.content import Json
from ..._canonical.vectors import Embedded, Vector
from ..._canonical.verdict import CATEGORIES, FLAGGED, Verdict
from ...errors import DialectError
from .._calls import fresh_id
from .._documents import Fields, kind_of
from ..side import (
    CountCalls,
    Embeddings,
    Moderations,
    ProviderCall,
    SideCall,
    SideRoute,
    counted,
    only,
    read_dimensions,
)


def environment(base_url: str, api_key: str, model: str) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_BASE": base_url,
        "OPENAI_API_KEY": api_key,
        "OPENAI_MODEL": model,
        "COPILOT_PROVIDER_BASE_URL": base_url,
        "COPILOT_PROVIDER_API_KEY": api_key,
        "COPILOT_MODEL": model,
        "GROK_BASE_URL": base_url,
        "GROK_API_KEY": api_key,
        # OpenHands uses litellm's form: the provider whose client is used, and its model.
        "LLM_BASE_URL": base_url,
        "LLM_API_KEY": api_key,
        "LLM_MODEL": f"openai/{model}",
    }


_COUNTED = ("model", "messages", "tools", "tool_choice")


def count_tokens(model: str, document: Json) -> CountCalls:
    """Yield the calls by which vLLM or llama.cpp counts the tokens of the document; see `Dialect.count_tokens`."""
    counted_fields = only(document, _COUNTED)
    answer = yield _beside("/tokenize", {**counted_fields, "add_generation_prompt": True})
    if (count := counted(answer, "count")) is not None:
        return count
    template = yield _beside("/apply-template", counted_fields)
    prompt = template.get("prompt") if isinstance(template, dict) else None
    if not isinstance(prompt, str):
        return None
    answer = yield _beside("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    return len(tokens) if isinstance(tokens, list) else None


def _beside(path: str, document: Json) -> ProviderCall:
    return ProviderCall(path=path, document=document, at_root=True)


_FORMATS = ("float", "base64")
_MOST_INPUTS = 2048
"""Maximum number of inputs in one call for embeddings, according to OpenAI's API reference."""


def embeddings(call: SideCall) -> Embeddings:
    """Parse an embeddings call. Raise `DialectError` if the body is invalid."""
    fields = Fields(call.document)
    model = fields.need_text("model")
    encoding = fields.text("encoding_format") or "float"
    if encoding not in _FORMATS:
        raise DialectError(f"must be {' or '.join(_FORMATS)}, not {encoding!r}", path="encoding_format")

    def pack(vector: Vector) -> Json:
        if encoding == "float":
            return list(vector)
        # Little-endian floats of four bytes in base64, the encoding that OpenAI's SDKs request by default.
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

    def render(vectors: Sequence[Vector], tokens: int) -> Json:
        data = [
            {"object": "embedding", "index": index, "embedding": pack(vector)}
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


def _inputs(value: Json) -> tuple[Embedded, ...]:
    """Return the inputs of an embeddings call. A list of numbers is one input, as token ids."""
    if value is None:
        raise DialectError("is missing", path="input")
    if not isinstance(value, list) or (value and all(_is_token(item) for item in value)):
        return (_input(value, "input"),)
    if not value:
        raise DialectError("must not be empty", path="input")
    if len(value) > _MOST_INPUTS:
        raise DialectError(f"has {len(value):,} items; the maximum is {_MOST_INPUTS:,}", path="input")
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
                f"must be a token id (a whole number), not {kind_of(token)}", path=f"{path}[{index}]"
            )
    return tuple(value)


def _is_token(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_MODEL = "omni-moderation-latest"
"""The model that is used if the request does not name a model."""


def moderations(call: SideCall) -> Moderations:
    """Parse a moderations call. Raise `DialectError` if the body is invalid."""
    fields = Fields(call.document)
    model = fields.text("model") or _MODEL
    texts, kinds = _texts(fields.take("input"))

    def render(verdicts: Sequence[Verdict]) -> Json:
        results: list[Json] = []
        for verdict in verdicts:
            scores = {name: float(verdict.scores.get(name, 0.0)) for name in CATEGORIES}
            results.append(
                {
                    "flagged": verdict.flagged,
                    "categories": {name: score >= FLAGGED for name, score in scores.items()},
                    "category_scores": scores,
                    "category_applied_input_types": {name: list(kinds) for name in CATEGORIES},
                }
            )
        return {"id": fresh_id("modr-"), "model": model, "results": results}

    return Moderations(model=model, texts=texts, render=render)


def _texts(value: Json) -> tuple[tuple[str, ...], Sequence[str]]:
    """Return the texts of a moderations call, and for each text the kinds of its parts (`text`, `image`).

    If the input is a list of objects, these objects are the parts of one input, and their texts are joined.
    """
    if value is None:
        raise DialectError("is missing", path="input")
    if isinstance(value, str):
        return (value,), ("text",)
    if not isinstance(value, list):
        raise DialectError(f"must be a string or a list, not {kind_of(value)}", path="input")
    if not value:
        raise DialectError("must not be empty", path="input")
    if isinstance(value[0], dict):
        parts = [_part(item, f"input[{index}]") for index, item in enumerate(value)]
        text = "\n".join(text for kind, text in parts if kind == "text")
        return (text,), sorted({kind.removesuffix("_url") for kind, _ in parts}, reverse=True)
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise DialectError(f"must be a string, not {kind_of(item)}", path=f"input[{index}]")
    return tuple(value), ("text",)


def _part(value: Json, path: str) -> tuple[str, str]:
    """Return the type of one part of a moderations input, and its text or the URL of its image."""
    fields = Fields(value, path)
    kind = fields.need_text("type")
    if kind == "text":
        return kind, fields.need_text("text")
    if kind == "image_url":
        return kind, fields.need_object("image_url").need_text("url")
    raise DialectError(f"must be text or image_url, not {kind!r}", path=fields.at("type"))


SIDE_ROUTES = (
    SideRoute(paths=("/embeddings",), method="POST", answer=embeddings),
    SideRoute(paths=("/moderations",), method="POST", answer=moderations),
)
NOT_SERVED = (
    "/assistants",
    "/audio",
    "/batches",
    "/chatkit",
    "/containers",
    "/conversations",
    "/evals",
    "/files",
    "/fine_tuning",
    "/images",
    "/realtime",
    "/threads",
    "/uploads",
    "/vector_stores",
    "/videos",
)
