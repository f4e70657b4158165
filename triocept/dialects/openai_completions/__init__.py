"""OpenAI's completions, from text to text, the wire of base models: `POST /v1/completions`."""

from __future__ import annotations

from ..base import Dialect
from ..openai_chat import OPENAI
from ..openai_chat.error import parse_error
from .error import render_error
from .names import NAME
from .request import parse_request, render_request
from .response import parse_response, render_response
from .stream_parser import Parser
from .stream_renderer import Renderer

OPENAI_COMPLETIONS = Dialect(
    name=NAME,
    route="/completions",
    base_path="/v1",
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    parse_error=parse_error,
    render_error=render_error,
    transcript="prompt",
    caps=(("max_tokens",),),
    logprobs=1,
    tools=False,
    response_prefix="cmpl-",
    sdk=OPENAI,
)
