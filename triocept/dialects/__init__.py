"""The wire formats of triocept, and how to write another one.

A dialect is sans-IO: it converts decoded JSON documents and bytes to canonical values, and back. It works in both
directions, as a server for an agent and as a client of a provider. It is one record, a `Dialect`::

    SHOUT = Dialect(
        name="shout",
        route="/shout",                     # POST /shout, after a rollout's base URL
        parse_request=parse_request,        # as a server: the agent's document,
        render_response=render_response,    # the whole response,
        stream_renderer=Renderer,           # the streamed response (a StreamRenderer for each request),
        render_error=render_error,          # and the error
        render_request=render_request,      # as a client: the reverse of each
        parse_response=parse_response,
        stream_parser=Parser,
        parse_error=parse_error,
    )

Further fields are facts about the wire: paths, headers, content types, limits, variables, side routes. The docstring
of each field has its default. An invalid value raises an error when the record is made.

Three fields are easily forgotten for a wire that differs from OpenAI's: `Dialect.as_it_came`, if a document requests a
stream in another way than by `stream`; `Dialect.stream_types` and `StreamParser.frame_end`, if a stream is not one of
server-sent events.

To register it:

* pass it: `serve_endpoint(dialects=[SHOUT])`, and `open_upstream(url, dialect=SHOUT)`;
* or declare an entry point in a package. The dialect is then known by its name wherever the package is installed::

      [project.entry-points."triocept.dialects"]
      shout = "my_package:SHOUT"

  A dialect that cannot be loaded, or that has the name or the route of another, is left out, with a warning in the
  log.

Rules for all dialects, each tested in `tests/dialects/test_conformance.py`:

* Parse permissively: every enum is open, a null is a missing field, and unknown content is kept, in `extra` or as an
  `Opaque` part. Only a wrong kind, a missing required field and an unknown role are errors; the error names the path:
  `messages[3].content[0].type`.
* Render strictly: every field that the official SDK marks as required is present.
* Kept content is written again only into the dialect that it came in.
* A whole response is the fold of its stream (`triocept.types.assemble`, `triocept.types.events_of`); any split of the
  bytes gives the same events; a stream without its terminal event is a truncation (`UpstreamTruncated`).

`triocept.dialects.kit` has helpers for authors.
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
    """The dialects of the package, by name; loaded on first use."""
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
