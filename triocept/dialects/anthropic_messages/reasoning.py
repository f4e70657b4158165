"""Thinking: signed, or redacted.

Rules:

1. Thinking in an answer always has a signature that is not empty: without one, agents drop the block, or show it as
   text. The signature of thinking that no provider signed is `UNSIGNED`; reading it gives no blob.
2. An agent sends its blocks back unchanged. So other providers' signatures travel to the agent packed into the
   signature (without text: into a redacted block), and come back as blobs.
3. A provider that signs thinking refuses thinking that it did not sign: a request contains only thinking with this
   dialect's signature.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..._canonical.content import Blob, Json, Reasoning
from ..._canonical.request import Request
from .._documents import Fields, merged
from .._packed import pack, unpack
from .names import NAME

UNSIGNED = "triocept-unsigned"
SIGNATURE, REDACTED = "signature", "redacted"


def parse_thinking(fields: Fields) -> Reasoning:
    """Return the reasoning of a `thinking` block, whose type was taken."""
    text, signature = fields.text("thinking") or "", fields.text("signature")
    return Reasoning(text, signature_blobs(signature), fields.rest())


def parse_redacted(fields: Fields) -> Reasoning:
    """Return the reasoning of a `redacted_thinking` block, whose type was taken."""
    data = fields.need_text("data")
    return Reasoning("", unpack(data) or (Blob(NAME, REDACTED, data),), fields.rest())


def render_reasoning(part: Reasoning, *, same_dialect: bool, signed_only: bool) -> list[Json]:
    """Return the blocks of this reasoning: perhaps none, perhaps both kinds.

    Args:
        part: the reasoning to write.
        same_dialect: True if the part's `extra` uses this dialect's field names.
        signed_only: True to leave out unsigned thinking.
    """
    blocks: list[dict[str, Json]] = []
    redacted = redacted_of(part.blobs)
    if signature_of(part.blobs) or (part.text and not signed_only):
        signature = told_signature(part.blobs)
        blocks.append({"type": "thinking", "thinking": part.text, "signature": signature})
    elif not signed_only and (packed := pack(part.blobs, NAME)):
        redacted.append(packed)
    blocks += [{"type": "redacted_thinking", "data": data} for data in redacted]
    if same_dialect and part.extra and blocks:
        blocks[0] = merged(blocks[0], part.extra)
    return list(blocks)


def signature_blobs(signature: str | None) -> tuple[Blob, ...]:
    """Return the blobs in a signature; no blobs if it is empty or `UNSIGNED`."""
    if not signature or signature == UNSIGNED:
        return ()
    return unpack(signature) or (Blob(NAME, SIGNATURE, signature),)


def signature_of(blobs: tuple[Blob, ...]) -> str | None:
    """Return the last signature of this dialect, or None."""
    return next((b.data for b in reversed(blobs) if b.dialect == NAME and b.kind == SIGNATURE), None)


def told_signature(blobs: tuple[Blob, ...]) -> str:
    """Return the signature for an agent: never empty."""
    return signature_of(blobs) or pack(blobs, NAME) or UNSIGNED


def redacted_of(blobs: tuple[Blob, ...]) -> list[str]:
    """Return the redacted thinking of this dialect."""
    return [blob.data for blob in blobs if blob.dialect == NAME and blob.kind == REDACTED]


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Return True if a provider accepts the document unchanged.

    A provider refuses unsigned thinking, which an agent sends back with triocept's own signature.
    """
    return bool(document.get("stream")) == request.stream and not any(
        isinstance(part, Reasoning) and not part.blobs
        for message in request.messages
        for part in message.content
    )
