"""The wire formats that triocept speaks, and how to write one more.

A dialect is sans-IO: decoded JSON documents and bytes go in, canonical values come out, and the reverse. It
speaks both ways, as a server to an agent and as a client to a provider. It is one record, a `Dialect`:

1. `parse_request` and `render_response` (and `stream_renderer`, `render_error`) make the server.
2. `render_request` and `parse_response` (and `stream_parser`, `parse_error`) make the client.
3. Its other fields are the facts that somebody asks for by the dialect's name: paths, heads, variables, and so on.

Rules for all of them, each a property of `tests/dialects/test_conformance.py`:

* Parse permissively: every enum is open, a null is a missing field, and what is not understood is kept, in
  `extra` or as an `Opaque` part. Only a wrong kind, a missing required field and an unknown role are errors,
  and the error names the path: `messages[3].content[0].type`.
* Render strictly: every field that the official SDK marks as required is there.
* What was kept is written again only into the dialect that it came in.
* A whole response is the fold of its stream; any split of the bytes gives the same events; a stream without
  its terminal event is a truncation.

`Fields` reads a document with paths; `error_of` makes the error of a provider's `Failure`.
"""

from __future__ import annotations

from ._failures import OVERFLOW, Failure, error_of
from ._fields import Fields
from ._json import decode_json, encode_json
from ._models import render_models
from ._registry import DIALECTS, dialect
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
)
from .streams import StreamParser, StreamRenderer

__all__ = [
    "DIALECTS",
    "HERE",
    "OVERFLOW",
    "SDK",
    "CountCalls",
    "Dialect",
    "Earlier",
    "Failure",
    "Fields",
    "ParseRequest",
    "ProviderCall",
    "SideBody",
    "SideCall",
    "SideRoute",
    "StreamParser",
    "StreamRenderer",
    "Target",
    "TokenCount",
    "bearer",
    "counted",
    "counted_by",
    "decode_json",
    "dialect",
    "encode_json",
    "error_of",
    "only",
    "render_models",
]
