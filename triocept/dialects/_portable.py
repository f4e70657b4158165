"""Convert reasoning efforts and reasoning signatures between dialects, and remove items that only one dialect has.

Each effort corresponds to a budget in tokens, as in inspect_ai: minimal 2048, low 4096, medium 10000, high 16000, xhigh
and max 32000.

A signature of reasoning is valid only for the provider that made the signature. An agent sends back only one opaque
text, for which its own dialect has a field. So the signatures of other providers (`Blob` objects) are packed into this
text for the agent, and unpacked when the agent sends the text back. A provider receives only its own signatures, never
a packed text.

The packed text is base64, which Gemini requires; an SDK may send the text back in the URL-safe alphabet.
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
    """Return the messages, but omit each message whose only content is an item that other dialects cannot express.

    An example is Codex's item `additional_tools`; its tools are also in the request's `tools`. An empty message in
    place of the item would change the conversation.
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
    """Raise `DialectError` if a message contains token ids, which the dialect of the caller cannot express.

    Raises:
        DialectError: a message contains token ids, which only the dialect `openai_completions` can express. The error
            names the field `prompt` of the agent's request.
    """
    for message in messages:
        for part in message.content:
            if type(part) is Opaque and part.dialect == _COMPLETIONS and isinstance(part.raw, list):
                raise DialectError(
                    "a prompt of token ids cannot be expressed in the provider's dialect: send the prompt as text",
                    path="prompt",
                )


_BUDGETS = {"minimal": 2048, "low": 4096, "medium": 10_000, "high": 16_000, "xhigh": 32_000, "max": 32_000}


def effort_for(ask: ReasoningAsk | None) -> str | None:
    """Return the requested effort, or the smallest effort whose budget is at least the requested budget.

    Return None if the request leaves the effort to the model.
    """
    if ask is None or ask.effort == "adaptive":
        return None
    if ask.effort is not None or ask.budget_tokens is None:
        return ask.effort
    return next((effort for effort, budget in _BUDGETS.items() if ask.budget_tokens <= budget), "xhigh")


def budget_for(ask: ReasoningAsk | None) -> int | None:
    """Return the requested budget for thinking, in tokens. If only an effort is requested, return the effort's budget.

    Return None if the budget is unknown.
    """
    if ask is None:
        return None
    return ask.budget_tokens if ask.budget_tokens is not None else _BUDGETS.get(ask.effort or "")


_MARK = b"triocept-blobs:"  # 15 bytes, so that every packed text begins with its base64
_BEGIN = base64.b64encode(_MARK).decode()


def pack(blobs: tuple[Blob, ...], dialect: str) -> str | None:
    """Pack those `blobs` that belong to dialects other than `dialect` into one text.

    If no blob belongs to another dialect, return None.
    """
    foreign = [blob for blob in blobs if blob.dialect != dialect]
    return base64.b64encode(_MARK + encode_json(foreign)).decode() if foreign else None


def unpack(text: str) -> tuple[Blob, ...]:
    """Return the reasoning signatures that `pack` packed into `text`. For any other text, return an empty tuple."""
    if not text.startswith(_BEGIN):
        return ()
    try:
        packed = base64.b64decode(text.translate(_STANDARD), validate=True)
        return msgspec.convert(decode_json(packed.removeprefix(_MARK)), tuple[Blob, ...])
    except (binascii.Error, DialectError, msgspec.ValidationError):
        return ()


_STANDARD = str.maketrans("-_", "+/")
