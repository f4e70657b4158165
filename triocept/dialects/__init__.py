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

Helpers to write one with are in `triocept.dialects.kit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._moved import hints_of
from ._failures import Failure
from ._registry import dialect, known_dialects, own_dialects
from .base import Dialect, Target
from .side import SideRoute
from .streams import StreamParser, StreamRenderer

if TYPE_CHECKING:
    DIALECTS: Mapping[str, Dialect]
    """The dialects of the package, by name; loaded when first asked for."""
else:
    _hint = hints_of(__name__)

    def __getattr__(name: str) -> Any:
        return own_dialects() if name == "DIALECTS" else _hint(name)


__all__ = [
    "DIALECTS",
    "Dialect",
    "Failure",
    "SideRoute",
    "StreamParser",
    "StreamRenderer",
    "Target",
    "dialect",
    "known_dialects",
]
