"""Anthropic's Messages API (`POST /v1/messages`), which Claude Code uses."""

from __future__ import annotations

from ..base import SDK, Dialect
from .parts import NAME, as_it_came
from .request import continued, parse_request, render_request
from .response import parse_error, parse_response, render_error, render_response, with_whole_arguments
from .side import (
    NOT_SERVED,
    REQUIRED,
    SIDE_ROUTES,
    count_tokens,
    environment,
    is_client,
    key_headers,
    render_models,
)
from .streams import Parser, Renderer

ANTHROPIC_MESSAGES = Dialect(
    name=NAME,
    route="/messages",
    hosts=("api.anthropic.com",),
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    streamed=with_whole_arguments,
    parse_error=parse_error,
    render_error=render_error,
    continued=continued,
    required=REQUIRED,
    caps=(("max_tokens",),),
    as_it_came=as_it_came,
    response_prefix="msg_",
    call_prefix="toolu_",
    key_headers=key_headers,
    default_headers={"anthropic-version": "2023-06-01"},  # the version that every Messages server accepts
    request_id_header="request-id",
    lost_status=404,
    is_client=is_client,
    render_models=render_models,
    side_routes=SIDE_ROUTES,
    not_served=NOT_SERVED,
    count_tokens=count_tokens,
    environment=environment,
    key_variable="ANTHROPIC_API_KEY",
    sdk=SDK(package="anthropic", sync="Anthropic", asynchronous="AsyncAnthropic"),
)
