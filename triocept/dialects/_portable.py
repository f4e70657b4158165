"""Values of other dialects: parts that no other dialect can express, efforts and budgets, and opaque blobs.

The table of efforts is that of inspect_ai: minimal 2048, low 4096, medium 10000, high 16000, xhigh and max 32000.

Opaque blobs of other providers are packed into the one opaque text that agents of a dialect send back unchanged. A
signature is useful at its own provider only, and an agent keeps the slot of its own wire only. So a foreign blob
travels to the agent in that slot, and comes back in it. No provider ever receives a packed text: each gets its own
blobs.

The text is base64, which Gemini's slot requires; an SDK may send it back in the URL-safe alphabet.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

import msgspec

from .._canonical.content import Blob, Message, Opaque
from .._canonical.request import ReasoningAsk
from ..errors import DialectError
from ._documents import decode_json, encode_json


def portable(messages: Iterable[Message]) -> list[Message]:
    """Return the messages without the messages that hold only an item of their own dialect.

    An example is Codex's `additional_tools`, whose tools are the request's own, too. An empty message in its place
    would change the conversation.
    """
    return [
        message
        for message in messages
        if "item" not in (message.extra or ())
        or not message.content
        or any(type(part) is not Opaque for part in message.content)
    ]


_COMPLETIONS = "openai_completions"


def refuse_token_ids(messages: Iterable[Message]) -> None:
    """Raise an error for a prompt of token ids: without them, the conversation would be empty.

    Raises:
        DialectError: the conversation is such a prompt; the error has the path in the agent's document.
    """
    for message in messages:
        for part in message.content:
            if type(part) is Opaque and part.dialect == _COMPLETIONS and isinstance(part.raw, list):
                raise DialectError("token ids cannot be said in another dialect", path="prompt")


_BUDGETS = {"minimal": 2048, "low": 4096, "medium": 10_000, "high": 16_000, "xhigh": 32_000, "max": 32_000}


def effort_for(ask: ReasoningAsk | None) -> str | None:
    """Return the requested effort; None if the model may choose."""
    if ask is None or ask.effort == "adaptive":
        return None
    if ask.effort is not None or ask.budget_tokens is None:
        return ask.effort
    return next((effort for effort, budget in _BUDGETS.items() if ask.budget_tokens <= budget), "xhigh")


def budget_for(ask: ReasoningAsk | None) -> int | None:
    """Return the requested budget in tokens; None if thinking is off, or the model may choose."""
    if ask is None:
        return None
    return ask.budget_tokens if ask.budget_tokens is not None else _BUDGETS.get(ask.effort or "")


_MARK = b"triocept-blobs:"  # 15 bytes, so that every packed text begins with its base64
_BEGIN = base64.b64encode(_MARK).decode()


def pack(blobs: tuple[Blob, ...], dialect: str) -> str | None:
    """Return the blobs of other dialects as one text; None if all blobs are of this dialect."""
    foreign = [blob for blob in blobs if blob.dialect != dialect]
    return base64.b64encode(_MARK + encode_json(foreign)).decode() if foreign else None


def unpack(text: str) -> tuple[Blob, ...]:
    """Return the blobs in a text that `pack` made; no blobs for any other text."""
    if not text.startswith(_BEGIN):
        return ()
    try:
        packed = base64.b64decode(text.translate(_STANDARD), validate=True)
        return msgspec.convert(decode_json(packed.removeprefix(_MARK)), tuple[Blob, ...])
    except (binascii.Error, DialectError, msgspec.ValidationError):
        return ()


_STANDARD = str.maketrans("-_", "+/")
