"""Reasoning, an extension with three field names.

vLLM and Ollama write `reasoning`; DeepSeek, SGLang and llama.cpp write `reasoning_content`; OpenRouter adds
`reasoning_details` (with signatures, to be replayed as received). OpenAI itself writes no reasoning.

Rules:

1. The fields are read in this order. The first one with text is the text, and its name is kept in `extra["field"]`. A
   second field with another text stays among the message's unknown fields.
2. Each detail is one opaque blob.
3. Reasoning is written under the name that it came in, otherwise as `reasoning_content`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._canonical.content import Blob, Json, Reasoning
from .._documents import Fields, decode_json, encode_json
from .names import NAME

DETAILS = "reasoning_details"
_DEFAULT = "reasoning_content"
_NAMES = ("reasoning", _DEFAULT)


def take_reasoning(fields: Fields) -> Reasoning | None:
    """Return the reasoning in a message or a delta, or None."""
    name, text = DETAILS, ""
    for candidate in _NAMES:
        value = fields.peek(candidate)
        if value is None or value == "":
            fields.take(candidate)
        elif isinstance(value, str) and not text:
            name, text = candidate, fields.need_text(candidate)
    details = [item for _, item in fields.items(DETAILS)]
    if not text:
        text = "".join(_detail_text(item) for item in details)
    if not text and not details:
        return None
    blobs = tuple(Blob(NAME, DETAILS, encode_json(item).decode()) for item in details)
    return Reasoning(text, blobs, None if name == _DEFAULT else {"field": name})


def render_reasoning(parts: Iterable[Reasoning], *, same_dialect: bool) -> dict[str, Json]:
    """Return the fields with this reasoning."""
    document: dict[str, Json] = {}
    for part in parts:
        name = field_of(part, same_dialect=same_dialect)
        if part.text and name != DETAILS:
            document[name] = document.get(name, "") + part.text
        details = [detail for blob in part.blobs if (detail := render_detail(blob)) is not None]
        if details:
            document[DETAILS] = [*document.get(DETAILS, ()), *details]
    return document


def field_of(part: Reasoning, *, same_dialect: bool) -> str:
    """Return the field name for the text of this reasoning."""
    name = (part.extra or {}).get("field") if same_dialect else None
    return name if name in (*_NAMES, DETAILS) else _DEFAULT


def render_detail(blob: Blob) -> Json:
    """Return the detail in this blob; None if it is of another dialect or kind."""
    return decode_json(blob.data) if blob.dialect == NAME and blob.kind == DETAILS else None


def _detail_text(detail: Json) -> str:
    if not isinstance(detail, dict):
        return ""
    text = detail.get("text") or detail.get("summary")
    return text if isinstance(text, str) else ""
