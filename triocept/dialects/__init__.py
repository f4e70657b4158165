"""The wire formats that triocept speaks, and how to write one more.

A dialect is sans-IO: decoded JSON documents and bytes go in, canonical values come out, and the reverse. It
speaks both ways, as a server to an agent and as a client to a provider. It is one record, a `Dialect`::

    SHOUT = Dialect(
        name="shout",
        route="/shout",                     # POST /shout; a rollout's base URL stands before it
        parse_request=parse_request,        # as a server: what an agent's document asks,
        render_response=render_response,    # what it is answered, whole
        stream_renderer=Renderer,           # or streamed: a StreamRenderer for each request,
        render_error=render_error,          # or why it is not
        render_request=render_request,      # as a client: the reverse of each
        parse_response=parse_response,
        stream_parser=Parser,
        parse_error=parse_error,
    )

Its other fields are facts that somebody asks for: paths, heads, content types, caps, variables, side routes. Each says
what is done where it is missing. What cannot be is an error where the record is made.

Three that are easily forgotten, where the wire is not like OpenAI's: `Dialect.as_it_came`, where a document asks for a
stream otherwise than by `stream`; `Dialect.stream_types` and `StreamParser.frame_end`, where a stream is not one of
server-sent events.

To make it known:

* `serve_endpoint(dialects=[SHOUT])`, and `open_upstream(url, dialect=SHOUT)`;
* or, of a package, as an entry point. Then it is known by its name wherever the package is installed::

      [project.entry-points."triocept.dialects"]
      shout = "my_package:SHOUT"

  One that cannot be loaded, or has the name or the route of another, is left out; a warning in the log names it.

Rules for all of them, each a property of `tests/dialects/test_conformance.py`:

* Parse permissively: every enum is open, a null is a missing field, and what is not understood is kept, in
  `extra` or as an `Opaque` part. Only a wrong kind, a missing required field and an unknown role are errors,
  and the error names the path: `messages[3].content[0].type`.
* Render strictly: every field that the official SDK marks as required is there.
* What was kept is written again only into the dialect that it came in.
* A whole response is the fold of its stream (`triocept.types.assemble`, `triocept.types.events_of`); any split of the
  bytes gives the same events; a stream without its terminal event is a truncation (`UpstreamTruncated`).

What is here to write one with:

* documents: `Fields` reads one with paths, `merged` and `known_of` put one together; `decode_json`, `encode_json`,
  `encode_text`.
* streams: `SSEDecoder`, `encode_sse`, `SSE_FRAMES` and `events_pattern` of server-sent events; `LineDecoder`,
  `encode_line` and `LINE_FRAMES` of a document on each line. `Increments` makes the events of parts that follow one
  another, `PartSequence` gives overlapping parts one after the other, `gather` collects what chunks have beside.
* content: `parse_content`, `as_content`, `in_result`; `split_data_url`, `data_url`, `media_type_of`.
* calls: `fresh_id`, `legal_id`, `short_id`, and `Pairing` for a wire without ids; `object_of` and `text_of`, where
  arguments are an object; `custom_names`, `fitted_call`, `FittedCall` and `CUSTOM_SCHEMA`, where tools take free text.
* answers: `settled_stop`; `effort_for` and `budget_for`, between words and tokens of thinking.
* other dialects' values: `is_same_dialect`, `portable`, `refuse_token_ids`; `pack` and `unpack`, where an agent keeps
  a blob.
* errors: `Failure`, `error_of`, `error_text`, `status_of`; and of one that agents know by its words, a prompt that is
  too long: `OVERFLOW`, `is_overflow`, `says_overflow`, `overflow_words`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._canonical.memory import Memory
from .._canonical.response import settled_stop
from .._canonical.verdict import Verdict
from .._util.sse import SSE, SSE_FRAMES, FrameEnd, SSEDecoder, encode_sse, events_pattern
from ._arguments import SCHEMA as CUSTOM_SCHEMA
from ._arguments import FittedCall, custom_names, fitted_call, object_of, text_of
from ._beside import Embeddings, Moderations, read_dimensions
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
    known_of,
    media_type_of,
    merged,
    parse_content,
    split_data_url,
)
from ._efforts import budget_for, effort_for
from ._failures import (
    OVERFLOW,
    Failure,
    error_of,
    error_text,
    is_overflow,
    overflow_words,
    says_overflow,
    status_of,
)
from ._ids import fresh_id, legal_id, short_id
from ._lines import LINE_FRAMES, LineDecoder, encode_line
from ._packed import pack, unpack
from ._pairing import MADE, Pairing
from ._portable import portable, refuse_token_ids
from ._registry import dialect, known_dialects, own_dialects
from ._tool_names import ToolNames
from .base import HERE, SDK, Dialect, ParseRequest, Target, bearer
from .side import (
    CountCalls,
    Earlier,
    ProviderCall,
    SideBody,
    SideCall,
    SideRoute,
    TokenCount,
    counted,
    counted_by,
    only,
    render_models,
)
from .streams import Increments, PartEvent, PartSequence, StreamParser, StreamRenderer

if TYPE_CHECKING:
    DIALECTS: Mapping[str, Dialect]
    """The dialects of the package, by name; loaded when first asked for."""
else:

    def __getattr__(name: str) -> Any:
        if name == "DIALECTS":
            return own_dialects()
        raise AttributeError(f"module 'triocept.dialects' has no attribute {name!r}", name=name)


__all__ = [
    "CUSTOM_SCHEMA",
    "DIALECTS",
    "HERE",
    "LINE_FRAMES",
    "MADE",
    "OVERFLOW",
    "SDK",
    "SSE",
    "SSE_FRAMES",
    "CountCalls",
    "Dialect",
    "Earlier",
    "Embeddings",
    "Failure",
    "Fields",
    "FittedCall",
    "FrameEnd",
    "Increments",
    "LineDecoder",
    "Memory",
    "Moderations",
    "Pairing",
    "ParseRequest",
    "PartEvent",
    "PartSequence",
    "ProviderCall",
    "SSEDecoder",
    "SideBody",
    "SideCall",
    "SideRoute",
    "StreamParser",
    "StreamRenderer",
    "Target",
    "TokenCount",
    "ToolNames",
    "Verdict",
    "as_content",
    "bearer",
    "budget_for",
    "counted",
    "counted_by",
    "custom_names",
    "data_url",
    "decode_json",
    "dialect",
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
    "known_dialects",
    "known_of",
    "legal_id",
    "media_type_of",
    "merged",
    "object_of",
    "only",
    "overflow_words",
    "pack",
    "parse_content",
    "portable",
    "read_dimensions",
    "refuse_token_ids",
    "render_models",
    "says_overflow",
    "settled_stop",
    "short_id",
    "split_data_url",
    "status_of",
    "text_of",
    "unpack",
]
