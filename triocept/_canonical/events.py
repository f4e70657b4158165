"""The increments of a response.

Grammar::

    response := ResponseStart part* ResponseEnd
    part     := PartStart(i) (PartDelta(i) | PartBlob(i))* PartEnd(i)

Rules:

1. `index` numbers the parts from 0 in the order of their starts. Parts may overlap (parallel tool calls of chat
   completions do); a renderer whose wire is sequential holds back what comes too early.
2. A delta is appended: to the text, to the reasoning's text, to a call's arguments.
3. `ResponseEnd` is the one terminal event. A stream without it is a truncation, never a success.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from .content import Blob, Json
from .response import ResponsePart, StopReason, Usage

__all__ = [
    "Event",
    "PartBlob",
    "PartDelta",
    "PartEnd",
    "PartStart",
    "ResponseEnd",
    "ResponseStart",
]


class ResponseStart(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The model has begun to answer."""

    id: str = ""
    model: str = ""
    usage: Usage | None = None
    """What is known of the usage at the start: the input."""
    extra: dict[str, Json] | None = None
    dialect: str = ""
    """As in `Response`."""


class PartStart(msgspec.Struct, frozen=True, gc=False):
    """A part begins."""

    index: int
    part: ResponsePart
    """The part as far as it is known: a call with its name and id and with empty arguments, an empty text, …"""


class PartDelta(msgspec.Struct, frozen=True, gc=False):
    """More of a part's text (or of a call's arguments)."""

    index: int
    text: str


class PartBlob(msgspec.Struct, frozen=True, gc=False):
    """An opaque blob of a reasoning part.

    Or an annotation of a text (a citation): then `data` is JSON, and it joins the list `kind` in the text's `extra`.
    """

    index: int
    blob: Blob


class PartEnd(msgspec.Struct, frozen=True, gc=False):
    """A part is whole."""

    index: int


class ResponseEnd(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The terminal event: the response is whole."""

    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    extra: dict[str, Json] | None = None


Event: TypeAlias = ResponseStart | PartStart | PartDelta | PartBlob | PartEnd | ResponseEnd
