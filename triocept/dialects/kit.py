"""Helpers for authors of a dialect, which this package's dialects use, too.

* documents: `Fields` reads an object with paths, `merged` assembles one; `decode_json`, `encode_json`, `encode_text`.
* streams: `SSEDecoder`, `encode_sse`, `SSE_FRAMES` and `events_pattern` for server-sent events; `LineDecoder`,
  `encode_line` and `LINE_FRAMES` for one document per line. `EventBuilder` makes the events of parts that follow one
  another, `PartSequence` puts overlapping parts in sequence, `gather` collects the unknown fields of chunks.
* content: `parse_content`, `as_content`, `in_result`; `split_data_url`, `data_url`, `media_type_of`.
* calls: `fresh_id`, `legal_id`, `short_id`, and `Pairing` for a wire without ids; `object_of` and `text_of`, for
  arguments that are an object; `custom_names`, `fitted_call`, `FittedCall` and `CUSTOM_SCHEMA`, for tools that take
  free text.
* answers: `settled_stop`; `effort_for` and `budget_for`, between effort words and thinking tokens.
* other dialects' values: `is_same_dialect`, `portable`, `refuse_token_ids`; `pack` and `unpack`, for a slot in which an
  agent keeps a blob.
* errors: `error_of`, `error_text`, `status_of`; `OVERFLOW` and `is_overflow`, for the error about too long a prompt,
  which agents recognise by its words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._canonical.memory import Memory
from .._canonical.response import settled_stop
from .._canonical.verdict import Verdict
from .._moved import hints_of
from .._util.sse import SSE, SSE_FRAMES, FrameEnd, SSEDecoder, encode_sse, events_pattern
from ._calls import SCHEMA as CUSTOM_SCHEMA
from ._calls import (
    FittedCall,
    Pairing,
    custom_names,
    fitted_call,
    fresh_id,
    legal_id,
    object_of,
    short_id,
    text_of,
)
from ._documents import (
    Fields,
    as_content,
    data_url,
    decode_json,
    encode_json,
    encode_text,
    gather,
    in_result,
    is_same_dialect,
    media_type_of,
    merged,
    parse_content,
    split_data_url,
)
from ._failures import (
    OVERFLOW,
    error_of,
    error_text,
    is_overflow,
    status_of,
)
from ._portable import budget_for, effort_for, pack, portable, refuse_token_ids, unpack
from .base import HERE, SDK, ParseRequest, bearer
from .side import (
    CountCalls,
    Earlier,
    Embeddings,
    Moderations,
    ProviderCall,
    SideBody,
    SideCall,
    TokenCount,
    counted_by,
    render_models,
)
from .streams import LINE_FRAMES, EventBuilder, LineDecoder, PartEvent, PartSequence, encode_line

if not TYPE_CHECKING:
    __getattr__ = hints_of(__name__)

__all__ = [
    "CUSTOM_SCHEMA",
    "CountCalls",
    "Earlier",
    "Embeddings",
    "Fields",
    "FittedCall",
    "FrameEnd",
    "HERE",
    "EventBuilder",
    "LINE_FRAMES",
    "LineDecoder",
    "Memory",
    "Moderations",
    "OVERFLOW",
    "Pairing",
    "ParseRequest",
    "PartEvent",
    "PartSequence",
    "ProviderCall",
    "SDK",
    "SSE",
    "SSEDecoder",
    "SSE_FRAMES",
    "SideBody",
    "SideCall",
    "TokenCount",
    "Verdict",
    "as_content",
    "bearer",
    "budget_for",
    "counted_by",
    "custom_names",
    "data_url",
    "decode_json",
    "effort_for",
    "encode_json",
    "encode_line",
    "encode_sse",
    "encode_text",
    "error_of",
    "error_text",
    "events_pattern",
    "fitted_call",
    "fresh_id",
    "gather",
    "in_result",
    "is_overflow",
    "is_same_dialect",
    "legal_id",
    "media_type_of",
    "merged",
    "object_of",
    "pack",
    "parse_content",
    "portable",
    "refuse_token_ids",
    "render_models",
    "settled_stop",
    "short_id",
    "split_data_url",
    "status_of",
    "text_of",
    "unpack",
]
