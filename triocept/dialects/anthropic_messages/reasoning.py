"""Thinking: signed, or redacted.

Rules:

1. An answer's thinking always has a signature that is not empty, for agents drop the block, or show it as
   text, where it has none. Where no provider signed it, the signature is `UNSIGNED`, and reading it gives no
   blob.
2. A provider that signs refuses what it did not sign: in a request, unsigned thinking is left out.
"""

from __future__ import annotations

from ..._canonical.content import Blob, Json, Reasoning
from .._fields import Fields, merged
from .names import NAME

__all__ = [
    "REDACTED",
    "SIGNATURE",
    "UNSIGNED",
    "parse_redacted",
    "parse_thinking",
    "redacted_of",
    "render_reasoning",
    "signature_blob",
    "signature_of",
]

UNSIGNED = "triocept-unsigned"
SIGNATURE, REDACTED = "signature", "redacted"


def parse_thinking(fields: Fields) -> Reasoning:
    """A `thinking` block, without its type."""
    text, signature = fields.text("thinking") or "", fields.text("signature")
    blob = signature_blob(signature)
    return Reasoning(text, (blob,) if blob else (), fields.rest())


def parse_redacted(fields: Fields) -> Reasoning:
    """A `redacted_thinking` block, without its type."""
    return Reasoning("", (Blob(NAME, REDACTED, fields.need_text("data")),), fields.rest())


def render_reasoning(part: Reasoning, *, own: bool, signed_only: bool) -> list[Json]:
    """The blocks of this reasoning: perhaps none, perhaps both kinds.

    Args:
        part: what to write.
        own: whether its `extra` is in this dialect's words.
        signed_only: whether unsigned thinking is left out.
    """
    blocks: list[dict[str, Json]] = []
    signature = signature_of(part.blobs)
    if signature or (part.text and not signed_only):
        blocks.append({"type": "thinking", "thinking": part.text, "signature": signature or UNSIGNED})
    blocks += [{"type": "redacted_thinking", "data": data} for data in redacted_of(part.blobs)]
    if own and part.extra and blocks:
        blocks[0] = merged(blocks[0], part.extra)
    return list(blocks)


def signature_blob(signature: str | None) -> Blob | None:
    """The signature as a blob; None for one that says nothing."""
    return Blob(NAME, SIGNATURE, signature) if signature and signature != UNSIGNED else None


def signature_of(blobs: tuple[Blob, ...]) -> str | None:
    """The last signature of this dialect."""
    return next((b.data for b in reversed(blobs) if b.dialect == NAME and b.kind == SIGNATURE), None)


def redacted_of(blobs: tuple[Blob, ...]) -> list[str]:
    """The redacted thinking of this dialect."""
    return [blob.data for blob in blobs if blob.dialect == NAME and blob.kind == REDACTED]
