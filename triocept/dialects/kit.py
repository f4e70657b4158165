"""Helpers for authors of a dialect; the built-in dialects use them, too.

* Documents: `Fields` reads an object, with paths for errors, and `merged` assembles an object. `decode_json`,
  `encode_json` and `encode_text` convert between bytes and values.
* Streams: `SSEDecoder`, `encode_sse`, `SSE_FRAMES` and `events_pattern` for server-sent events; `LineDecoder`,
  `encode_line` and `LINE_FRAMES` for one document per line. `EventBuilder` creates the events of parts that follow one
  another, `PartSequence` puts the events of overlapping parts in sequence, and `gather` collects the unknown fields of
  chunks.
* Content: `parse_content`, `as_content` and `in_result`; for media, `split_data_url`, `data_url` and `media_type_of`.
* Tool calls: `fresh_id`, `legal_id` and `short_id`, and `Pairing` for an API without ids. `object_of` and `text_of` are
  for an API in which arguments are a JSON object; `custom_names`, `fitted_call`, `FittedCall` and `CUSTOM_SCHEMA` are
  for tools that take free text.
* Answers: `settled_stop`. Reasoning: `effort_for` and `budget_for` convert between effort words and thinking tokens.
* Values from other dialects: `is_same_dialect`, `portable` and `refuse_token_ids`; `pack` and `unpack`, for a field
  with an opaque value that agents send back unchanged.
* Errors: `error_of`, `error_text` and `status_of`; `OVERFLOW` and `is_overflow`, for the error about a prompt that is
  too long. (Agents recognise this error by its text.)
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
