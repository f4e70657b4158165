"""Quart-Trio: every route that is not a model call.

Health, the model list, token counting, and what agents ask before they begin; and for whatever is left, a 404 or a
405 in JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeAlias

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from .._canonical.content import Json
from .._rollout.registry import Registry
from .._rollout.rollout import Rollout
from ..dialects import dialect as dialect_named
from ..dialects.anthropic_messages import extras as anthropic_extras
from ..dialects.base import Dialect, Failure
from ..dialects.openai_chat import extras as openai_extras
from ..errors import DialectError, Refusal
from .answer import failure_of, failure_reply
from .front import ROLLOUT_KEY, head_of
from .intake import authenticate

__all__ = ["make_app"]

View: TypeAlias = Callable[[], Awaitable[Response]]

log = logging.getLogger("triocept.endpoint")


def make_app(registry: Registry, *, max_body: int) -> QuartTrio:
    """The Quart-Trio application of one endpoint. `Front` has cut a rollout's prefix off its paths."""
    app = QuartTrio("triocept", static_folder=None)
    # Quart cuts a stream after 60 s, a slow body after 60 s, and a body at 16 MiB.
    app.config.update(RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None, MAX_CONTENT_LENGTH=max_body)
    app.url_map = _url_map()

    def view(function: View) -> View:
        app.view_functions[function.__name__] = function
        return function

    @view
    async def health() -> Response:
        return _json({"status": "ok", "rollouts": len(registry)})

    @view
    async def greeting() -> Response:
        return _json({"service": "triocept"})  # Claude Code's `HEAD /`, and people with a browser

    @view
    async def hello() -> Response:
        return _json({"message": "hello"})  # Claude Code 2.1.331's `HEAD /api/hello`

    @view
    async def models() -> Response:
        rollout = _rollout()
        if _asks_in_anthropic():
            return _json(anthropic_extras.render_models([rollout.model]))
        return _json(openai_extras.render_models([rollout.model]))

    @view
    async def count_tokens() -> Response:
        _rollout()
        try:
            document = msgspec.json.decode(await request.get_data())
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise DialectError(f"the body is not valid JSON: {exc}") from exc
        if isinstance(document, dict):
            document.setdefault("max_tokens", 1)  # not asked for here, where nothing is written
        counted = dialect_named("anthropic_messages").parse_request(document)
        return _json(anthropic_extras.render_token_count(counted))

    def _rollout() -> Rollout:
        scope: Any = request.scope
        return authenticate(head_of(scope), registry, scope[ROLLOUT_KEY])

    @app.errorhandler(Refusal)
    @app.errorhandler(DialectError)
    async def refused(exc: Refusal | DialectError) -> Response:
        return _failed(failure_of(exc, max_body))

    @app.errorhandler(HTTPException)
    async def http_error(exc: HTTPException) -> Response:
        return _failed(_failure_of_http(exc, max_body), exc)

    return app


_ROUTES = (
    ("/health", "health", "GET"),
    ("/", "greeting", "GET"),
    ("/api/hello", "hello", "GET"),
    ("/v1/models", "models", "GET"),
    ("/models", "models", "GET"),
    ("/v1/messages/count_tokens", "count_tokens", "POST"),
    ("/messages/count_tokens", "count_tokens", "POST"),
)


@cache
def _url_map() -> Any:
    """The routes, the same for every endpoint: werkzeug takes 0.3 ms to compile each."""
    url_map = QuartTrio.url_map_class(host_matching=False)
    url_map.strict_slashes = False
    for path, name, method in _ROUTES:
        url_map.add(QuartTrio.url_rule_class(path, endpoint=name, methods={method, "OPTIONS"}))
    return url_map


def _failure_of_http(exc: HTTPException, max_body: int) -> Failure:
    status = exc.code or 500
    words = {
        404: f"there is no {request.path} here",
        405: f"{request.path} does not take {request.method}",
        413: f"the body is over {max_body} bytes",
    }
    return Failure(status=status, message=words.get(status, exc.description or "error"), should_retry=False)


def _failed(failure: Failure, exc: HTTPException | None = None) -> Response:
    log.warning("%s %s: %s %s", request.method, request.path, failure.status, failure.message)
    reply = failure_reply(failure, _asking_dialect().render_error(failure))
    headers = dict(reply.headers)
    if failure.status == 405 and exc is not None:
        headers["allow"] = ", ".join(sorted(getattr(exc, "valid_methods", None) or ()))
    return Response(reply.body, status=reply.status, headers=headers)


def _asking_dialect() -> Dialect:
    return dialect_named("anthropic_messages" if _asks_in_anthropic() else "openai_chat")


def _asks_in_anthropic() -> bool:
    """Whether the client speaks to Anthropic: its SDKs say so in a header, and only it has /messages."""
    return "anthropic-version" in request.headers or "/messages" in request.path


def _json(document: Json) -> Response:
    return Response(msgspec.json.encode(document), headers={"content-type": "application/json"})
