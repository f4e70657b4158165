"""Quart-Trio: every route that is not a model call.

Health, the model list, token counting, what agents ask before they begin, and the host services; and for whatever is
left, a 404 or a 405 in JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from secrets import token_hex
from typing import Any

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from .._canonical.content import Json
from .._rollout.answer import ClientGone
from .._rollout.registry import Registry
from .._rollout.rollout_core import RolloutCore
from ..dialects import Dialect, Failure
from ..errors import DialectError, Refusal
from .failure import failure_of, failure_reply
from .front import READ_DOCUMENT, ROLLOUT_KEY, head_of
from .intake import authenticate, authenticate_state
from .model_views import View, add_model_views, add_side_views, client_dialect, json_response, side_views
from .not_served import refusal_of_unserved
from .notices import Notices, shown
from .service_views import add_service_views
from .transport import BodyTooLarge

__all__ = ["make_app"]


def make_app(
    registry: Registry[RolloutCore],
    dialects: Mapping[str, Dialect],
    *,
    notices: Notices,
    max_body: int,
    endpoint_id: str,
) -> QuartTrio:
    """The Quart-Trio application of one endpoint. `Front` has cut a rollout's prefix off its paths."""
    app = QuartTrio("triocept", static_folder=None)
    # Quart cuts a stream after 60 s, and a body (which it is not given: see `Front`) at 16 MiB.
    app.config.update(RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    app.url_map = _url_map(tuple(dialects.values()))

    def view(function: View) -> View:
        app.view_functions[function.__name__] = function
        return function

    @view
    async def health() -> Response:
        return json_response({"status": "ok", "rollouts": len(registry), "endpoint": endpoint_id})

    @view
    async def greeting() -> Response:
        return json_response({"service": "triocept"})  # Claude Code's `HEAD /`, and people with a browser

    @view
    async def hello() -> Response:
        return json_response({"message": "hello"})  # Claude Code 2.1.331's `HEAD /api/hello`

    def _rollout() -> RolloutCore:
        scope: Any = request.scope
        return authenticate(head_of(scope), registry, scope[ROLLOUT_KEY], dialects.values())

    def _refusal_of_key() -> Refusal | None:
        try:
            _rollout()
        except Refusal as refusal:
            return refusal
        return None

    def _rollout_of_state() -> RolloutCore:
        scope: Any = request.scope
        return authenticate_state(head_of(scope), registry, scope[ROLLOUT_KEY])

    async def document(optional: bool = False) -> Json:
        scope: Any = request.scope
        return await scope[READ_DOCUMENT](optional)

    add_model_views(view, _rollout, dialects)
    add_side_views(app.view_functions.__setitem__, _rollout, document, dialects)
    add_service_views(view, _rollout, _rollout_of_state, document, dialects)

    def failed(failure: Failure, exc: HTTPException | None = None) -> Response:
        scope: Any = request.scope
        said = f"{shown(request.method)} {shown(request.path)}: {failure.status} {shown(failure.message)}"
        notices.warn(f"refused {failure.status}", "%s", said)
        registry.note_refusal(scope[ROLLOUT_KEY], said)
        return _failed(client_dialect(dialects), failure, exc)

    @app.after_request
    async def identify(response: Response) -> Response:
        if (name := client_dialect(dialects).request_id_header) and name not in response.headers:
            response.headers[name] = f"req_{token_hex(8)}"
        return response

    @app.errorhandler(Refusal)
    @app.errorhandler(DialectError)
    @app.errorhandler(BodyTooLarge)
    async def refused(exc: Exception) -> Response:
        return failed(failure_of(exc, max_body))

    @app.errorhandler(ClientGone)
    async def gone(exc: ClientGone) -> Response:
        return Response(b"", status=400)  # nobody reads it

    @app.errorhandler(HTTPException)
    async def http_error(exc: HTTPException) -> Response:
        if exc.code in (404, 405) and (unserved := refusal_of_unserved(request.path, dialects.values())):
            return await refused(_refusal_of_key() or unserved)
        return failed(_failure_of_http(exc, max_body), exc)

    return app


# google-genai 3 says v1 where no version is asked for, gemini-cli v1beta.
_VERSION = "/<any(v1, v1beta, v1alpha):version>"
_ROUTES = (
    ("/health", "health", "GET"),
    ("/", "greeting", "GET"),
    ("/api/hello", "hello", "GET"),
    (f"{_VERSION}/models", "models", "GET"),
    ("/models", "models", "GET"),
    (f"{_VERSION}/models/<path:name>", "model", "GET"),
    ("/models/<path:name>", "model", "GET"),
    ("/tools", "list_tools", "GET"),
    ("/tools/<name>", "call_tool", "POST"),
    ("/user", "ask_user", "POST"),
    ("/stop", "ask_stop", "POST"),
    ("/state", "get_state", "GET"),
    ("/state", "put_state", "PUT"),
)


def _beside(dialects: Iterable[Dialect]) -> Iterator[tuple[str, str, str]]:
    """The routes of these dialects, behind whatever their agents' base URLs end in."""
    for dialect in dialects:
        base = dialect.base_path
        for name, route in side_views(dialect):
            for path in route.paths:
                yield path, name, route.method
                if base and f"{base}{path}" not in route.paths and not path.startswith(f"{base}/"):
                    yield f"{base}{path}", name, route.method
        if base not in ("", "/v1"):
            yield f"{base}/models", "models", "GET"
            yield f"{base}/models/<path:name>", "model", "GET"


@lru_cache(maxsize=8)
def _url_map(dialects: tuple[Dialect, ...]) -> Any:
    """The routes, with those of these dialects, the same for every endpoint: werkzeug takes 0.3 ms to compile each."""
    url_map = QuartTrio.url_map_class(host_matching=False)
    url_map.strict_slashes = False
    for path, name, method in (*_ROUTES, *_beside(dialects)):
        url_map.add(QuartTrio.url_rule_class(path, endpoint=name, methods={method, "OPTIONS"}))
    return url_map


def _failure_of_http(exc: HTTPException, max_body: int) -> Failure:
    status = exc.code or 500
    words = {
        404: f"there is no {request.path} here{_why_not_here(request.path)}",
        405: f"{request.path} does not take {request.method}",
        413: f"the body is over {max_body} bytes",
    }
    return Failure(status=status, message=words.get(status, exc.description or "error"), should_retry=False)


def _why_not_here(path: str) -> str:
    """What to do about it, where that is known."""
    if path.startswith("/v1/v1/") or path == "/v1/v1":
        return ": its base URL ends in /v1 once too often; give this client one without it"
    return ""


def _failed(dialect: Dialect, failure: Failure, exc: HTTPException | None) -> Response:
    if failure.status == 404 and failure.code is None and exc is not None:
        failure = msgspec.structs.replace(failure, code=dialect.no_route)
    reply = failure_reply(failure, dialect)
    headers = dict(reply.headers)
    if failure.status == 405 and exc is not None:
        headers["allow"] = ", ".join(sorted(getattr(exc, "valid_methods", None) or ()))
    return Response(reply.body, status=reply.status, headers=headers)
