"""Thinking: signed, or redacted.

Rules:

1. An answer's thinking always has a signature that is not empty, for agents drop the block, or show it as
   text, where it has none. Where no provider signed it, the signature is `UNSIGNED`, and reading it gives no
   blob.
2. An agent sends its blocks back as it got them. So what other providers signed goes to the agent packed into the
   signature, or, where there is no text, into a redacted block; and comes back as their blobs.
3. A provider that signs refuses what it did not sign: in a request, only thinking that this one signed is left in.
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
    """A `thinking` block, without its type."""
    text, signature = fields.text("thinking") or "", fields.text("signature")
    return Reasoning(text, signature_blobs(signature), fields.rest())


def parse_redacted(fields: Fields) -> Reasoning:
    """A `redacted_thinking` block, without its type."""
    data = fields.need_text("data")
    return Reasoning("", unpack(data) or (Blob(NAME, REDACTED, data),), fields.rest())


def render_reasoning(part: Reasoning, *, same_dialect: bool, signed_only: bool) -> list[Json]:
    """The blocks of this reasoning: perhaps none, perhaps both kinds.

    Args:
        part: what to write.
        same_dialect: whether its `extra` is in this dialect's words.
        signed_only: whether unsigned thinking is left out.
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
    """The blobs in a signature; none in one that says nothing."""
    if not signature or signature == UNSIGNED:
        return ()
    return unpack(signature) or (Blob(NAME, SIGNATURE, signature),)


def signature_of(blobs: tuple[Blob, ...]) -> str | None:
    """The last signature of this dialect."""
    return next((b.data for b in reversed(blobs) if b.dialect == NAME and b.kind == SIGNATURE), None)


def told_signature(blobs: tuple[Blob, ...]) -> str:
    """The signature that an agent gets: never empty."""
    return signature_of(blobs) or pack(blobs, NAME) or UNSIGNED


def redacted_of(blobs: tuple[Blob, ...]) -> list[str]:
    """The redacted thinking of this dialect."""
    return [blob.data for blob in blobs if blob.dialect == NAME and blob.kind == REDACTED]


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Whether a provider takes the document as it is: not with thinking that nobody signed, which an agent sends back
    as if it were signed (by us)."""
    return bool(document.get("stream")) == request.stream and not any(
        isinstance(part, Reasoning) and not part.blobs
        for message in request.messages
        for part in message.content
    )
