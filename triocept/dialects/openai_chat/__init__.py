"""OpenAI's chat completions (`POST /v1/chat/completions`), which most agents and nearly all servers support."""

from __future__ import annotations

from ..base import SDK, Dialect
from .parts import NAME
from .request import parse_request, render_request
from .response import parse_error, parse_response, render_error, render_response
from .side import NOT_SERVED, SIDE_ROUTES, count_tokens, environment
from .streams import Parser, Renderer

OPENAI = SDK(package="openai", sync="OpenAI", asynchronous="AsyncOpenAI")

OPENAI_CHAT = Dialect(
    name=NAME,
    route="/chat/completions",
    base_path="/v1",
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    parse_error=parse_error,
    render_error=render_error,
    caps=(("max_completion_tokens",), ("max_tokens",)),
    logprobs=True,
    response_prefix="chatcmpl-",
    no_route="unknown_url",  # otherwise, the error code would be `model_not_found`
    side_routes=SIDE_ROUTES,
    not_served=NOT_SERVED,
    count_tokens=count_tokens,
    environment=environment,
    sdk=OPENAI,
)
