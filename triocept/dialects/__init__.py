"""The wire formats that triocept supports (of OpenAI, Anthropic, Gemini and Ollama), and the API to add a wire format.

A dialect is sans-IO: it converts decoded JSON documents and bytes to triocept's own types, and back. A dialect works in
both directions: an endpoint uses the dialect as a server, which answers an agent; an upstream uses the dialect as a
client, which calls a provider. A dialect is defined by one record, a `Dialect`::

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

Further fields are facts about the wire format: paths, headers, content types, limits, environment variables, and routes
for other calls. The docstring of each field names the default. Creating the record with an invalid value raises an
error.

Three fields are easily forgotten for a wire format that differs from OpenAI's. Set `Dialect.as_it_came` if a document
requests a stream in another way than by its field `stream`. Set `Dialect.stream_types` and `StreamParser.frame_end` if
a stream does not consist of server-sent events.

To register a dialect:

* pass the record to `serve_endpoint(dialects=[SHOUT])` and to `open_upstream(url, dialect=SHOUT)`;
* or declare an entry point in a package. The dialect can then be selected by its name wherever the package is
  installed::

      [project.entry-points."triocept.dialects"]
      shout = "my_package:SHOUT"

  A dialect that cannot be loaded, or has the name or the route of another dialect, is not registered, and a warning is
  logged.

Rules for all dialects, each tested in `tests/dialects/test_conformance.py`:

* Parse permissively: accept every value of an enum, treat a null as a missing field, and keep unknown content, in
  `extra` or as an `Opaque` part. Only a wrong type, a missing required field and an unknown role are errors. The error
  names the path, such as `messages[3].content[0].type`.
* Render strictly: write every field that the official SDK marks as required.
* Write unknown content that was kept only in the dialect from which it was parsed.
* An answer that is parsed from one JSON document equals the answer that is assembled from the events of the same
  answer's stream (`triocept.types.assemble`, `triocept.types.events_of`). The events do not depend on where the bytes
  are split. A stream without its terminal event was truncated (`UpstreamTruncated`).

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
