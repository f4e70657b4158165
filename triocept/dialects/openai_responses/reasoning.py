"""Reasoning items: `summary`, `content`, `encrypted_content`.

Rules:

1. Each text of the summary and of the content is one part. The item's own fields are in `extra["item"]` of the first
   part. A later text of the summary has `summary_index`; a text of the content has `content_index`.
2. The encrypted content is a blob of the last part, passed on verbatim.
3. An agent sends the item back unchanged. So other providers' signatures travel to the agent packed into
   `encrypted_content`, and come back as blobs.
4. A provider refuses content that it did not encrypt: a request has only reasoning of this dialect, without foreign
   blobs.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..._canonical.content import Blob, Json, Reasoning
from .._documents import Fields
from .._packed import pack, unpack
from .names import NAME

ENCRYPTED = "encrypted_content"
_TYPES = {"summary": "summary_text", "content": "reasoning_text"}


def parse_reasoning(fields: Fields, *, answer: bool) -> tuple[Reasoning, ...]:
    """Return the parts of a reasoning item; at least one."""
    blobs = blobs_of(fields.text(ENCRYPTED))
    found = [part for field in ("summary", "content") for part in _parse_texts(fields, field)] or [
        Reasoning()
    ]
    if answer:
        fields.take("status")
    item = fields.rest()
    first = found[0]
    if item or first.extra:
        found[0] = msgspec.structs.replace(first, extra={"item": item or {}, **(first.extra or {})})
    found[-1] = msgspec.structs.replace(found[-1], blobs=blobs)
    return tuple(found)


def reasoning_text(part: Reasoning, text: str, *, same_dialect: bool) -> dict[str, Json]:
    """Return the wire form of a text of the summary or of the content."""
    places = ("item", "content_index", "summary_index")
    extra = (
        {name: value for name, value in (part.extra or {}).items() if name not in places}
        if same_dialect
        else {}
    )
    return {"type": _TYPES[text_field(part, same_dialect=same_dialect)], "text": text, **extra}


def text_field(part: Reasoning, *, same_dialect: bool) -> Literal["summary", "content"]:
    """Return the name of the list with the text of this part; agents display the summary."""
    return "content" if same_dialect and part.extra and "content_index" in part.extra else "summary"


def is_replayable(part: Reasoning, *, same_dialect: bool) -> bool:
    """Return True if a provider of this dialect accepts the reasoning in a request."""
    ours = [blob.dialect == NAME for blob in part.blobs]
    return all(ours) if same_dialect else any(ours)


def blobs_of(encrypted: str | None) -> tuple[Blob, ...]:
    """Return the blobs in an item's encrypted content."""
    if not encrypted:  # llama.cpp writes ""
        return ()
    return unpack(encrypted) or (Blob(NAME, ENCRYPTED, encrypted),)


def encrypted_of(blobs: tuple[Blob, ...], *, packed: bool) -> str | None:
    """Return the encrypted content with these blobs; `packed`: also blobs of other dialects."""
    same_dialect = [blob.data for blob in blobs if blob.dialect == NAME and blob.kind == ENCRYPTED]
    if same_dialect:
        return same_dialect[-1]
    return pack(blobs, NAME) if packed else None


def _parse_texts(fields: Fields, field: Literal["summary", "content"]) -> list[Reasoning]:
    found = []
    for number, (path, value) in enumerate(fields.items(field)):
        inner = Fields(value, path)
        kind, text = inner.text("type"), inner.text("text") or ""
        extra = dict(inner.rest() or {})
        if kind not in (_TYPES[field], None):
            extra["type"] = kind
        if field == "content" or number:
            extra[f"{field}_index"] = number
        if text:
            found.append(Reasoning(text, extra=extra or None))
    return found
