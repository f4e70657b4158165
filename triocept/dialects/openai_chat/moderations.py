"""`POST /v1/moderations`: the moderation of one text, of several texts, or of texts and images as one input."""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.content import Json
from ..._canonical.verdict import CATEGORIES, FLAGGED, Verdict
from ...errors import DialectError
from .._beside import Moderations
from .._documents import Fields, kind_of
from .._ids import fresh_id
from ..side import SideCall

_MODEL = "omni-moderation-latest"
"""The default model."""


def moderations(call: SideCall) -> Moderations:
    """Return the parsed moderations call; raise `DialectError` with the path in the document."""
    fields = Fields(call.document)
    model = fields.text("model") or _MODEL
    texts, kinds = _texts(fields.take("input"))

    def render(verdicts: Sequence[Verdict]) -> Json:
        results: list[Json] = [_result(verdict, kinds) for verdict in verdicts]
        return {"id": fresh_id("modr-"), "model": model, "results": results}

    return Moderations(model=model, texts=texts, render=render)


def _result(verdict: Verdict, kinds: Sequence[str]) -> dict[str, Json]:
    scores = {name: float(verdict.scores.get(name, 0.0)) for name in CATEGORIES}
    return {
        "flagged": verdict.flagged,
        "categories": {name: score >= FLAGGED for name, score in scores.items()},
        "category_scores": scores,
        "category_applied_input_types": {name: list(kinds) for name in CATEGORIES},
    }


def _texts(value: Json) -> tuple[tuple[str, ...], Sequence[str]]:
    """Return the texts, and the kinds of an input. Objects are parts of one input, whose texts are joined."""
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
    """Return the part's type, and its text or the URL of its image."""
    fields = Fields(value, path)
    kind = fields.need_text("type")
    if kind == "text":
        return kind, fields.need_text("text")
    if kind == "image_url":
        return kind, fields.need_object("image_url").need_text("url")
    raise DialectError(f"must be text or image_url, not {kind!r}", path=fields.at("type"))
