"""OpenAI's completions, from text to text, the wire of base models: `POST /v1/completions`."""

from __future__ import annotations

from ..base import Dialect
from ..openai_chat import OPENAI
from ..openai_chat.response import parse_error
from .request import NAME, parse_request, render_request
from .response import Parser, Renderer, parse_response, render_error, render_response

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
