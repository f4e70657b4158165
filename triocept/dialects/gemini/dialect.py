"""generateContent as a `Dialect`: `POST /v1beta/models/{model}:generateContent`, and `:streamGenerateContent`."""

from __future__ import annotations

from collections.abc import Mapping

from ..._canonical.content import Json
from ..._canonical.request import Request
from ..base import Dialect
from .error import parse_error, render_error
from .names import NAME
from .paths import match, render_path
from .request import parse_request, render_request
from .response import parse_response, render_response
from .side import SIDE_ROUTES, count_tokens, environment, is_client, render_models
from .stream_parser import Parser
from .stream_renderer import Renderer

__all__ = ["GEMINI"]

_STREAMS = ("text/event-stream", "application/json")


def _answer_type(request: Request) -> str:
    return _STREAMS[request.framing == "json_array"]


def _as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    return True  # whether it asks for a stream is said by its path


def _key_headers(api_key: str) -> dict[str, str]:
    return {"x-goog-api-key": api_key}


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
    stream_types=_STREAMS,
    answer_type=_answer_type,
    parse_error=parse_error,
    render_error=render_error,
    transcript="contents",
    caps=(("generationConfig", "maxOutputTokens"), ("generation_config", "max_output_tokens")),
    tool_names="[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}",
    as_it_came=_as_it_came,
    key_headers=_key_headers,
    request_id_header="",
    is_client=is_client,
    render_models=render_models,
    side_routes=SIDE_ROUTES,
    count_tokens=count_tokens,
    environment=environment,
    key_variable="GEMINI_API_KEY",
)
