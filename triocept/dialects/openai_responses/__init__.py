"""OpenAI's Responses API (`POST /v1/responses`, streams and websockets), which Codex uses."""

from __future__ import annotations

from ..base import Dialect
from ..openai_chat import OPENAI
from .request import NOT_POSTED, as_it_came, parse_request, render_request
from .response import parse_error, parse_response, render_error, render_response
from .side import SIDE_ROUTES, continued, count_tokens, referenced
from .stream_parser import Parser
from .stream_renderer import Renderer
from .tools import NAME

OPENAI_RESPONSES = Dialect(
    name=NAME,
    route="/responses",
    base_path="/v1",
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    parse_error=parse_error,
    render_error=render_error,
    continued=continued,
    referenced=referenced,
    transcript="input",
    caps=(("max_output_tokens",),),
    not_posted=NOT_POSTED,
    as_it_came=as_it_came,
    response_prefix="resp_",
    side_routes=SIDE_ROUTES,
    count_tokens=count_tokens,
    sdk=OPENAI,
)
