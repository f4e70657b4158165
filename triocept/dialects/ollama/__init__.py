"""Ollama's own API (`POST /api/chat`).

Ollama's command line and SDKs use this API, and so do programs for local models.
"""

from __future__ import annotations

from ..base import Dialect
from .request import NAME, as_it_came, parse_request, render_request
from .response import Parser, Renderer, parse_error, parse_response, render_error, render_response
from .side import NOT_SERVED, SIDE_ROUTES, environment, is_client, render_models

_ROUTE = "/api/chat"

OLLAMA = Dialect(
    name=NAME,
    route=_ROUTE,
    write_path=lambda _: _ROUTE,
    hosts=("ollama.com",),
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    stream_types=("application/x-ndjson",),
    parse_error=parse_error,
    render_error=render_error,
    caps=(("options", "num_predict"),),
    tool_names="(?s:.+)",  # Ollama has no rule for names
    as_it_came=as_it_came,
    is_client=is_client,
    render_models=render_models,
    side_routes=SIDE_ROUTES,
    not_served=NOT_SERVED,
    environment=environment,
    key_variable="OLLAMA_API_KEY",
)
