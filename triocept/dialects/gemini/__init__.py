"""Google's generateContent API, which gemini-cli and the Gemini SDKs use.

Model calls are `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`.
"""

from __future__ import annotations

from ..base import Dialect
from .parts import NAME
from .request import STREAM_TYPES, answer_type, as_it_came, match, parse_request, render_path, render_request
from .response import parse_error, parse_response, render_error, render_response
from .side import NOT_SERVED, SIDE_ROUTES, count_tokens, environment, is_client, key_headers, render_models
from .streams import Parser, Renderer

GEMINI = Dialect(
    name=NAME,
    route="/models",
    read_path=match,
    write_path=render_path,
    hosts=("generativelanguage.googleapis.com",),
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    stream_types=STREAM_TYPES,
    answer_type=answer_type,
    parse_error=parse_error,
    render_error=render_error,
    transcript="contents",
    caps=(("generationConfig", "maxOutputTokens"), ("generation_config", "max_output_tokens")),
    tool_names="[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}",
    as_it_came=as_it_came,
    key_headers=key_headers,
    request_id_header="",
    is_client=is_client,
    render_models=render_models,
    side_routes=SIDE_ROUTES,
    not_served=NOT_SERVED,
    count_tokens=count_tokens,
    environment=environment,
    key_variable="GEMINI_API_KEY",
)
