"""Quart-Trio: every route that is not a model call.

Health, the model list, token counting, what agents ask before they begin, and the host services; and for whatever is
left, a 404 or a 405 in JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cache
from secrets import token_hex
from typing import Any, Literal, TypeAlias

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from .._canonical.content import Json
from .._canonical.response import Response as Answer
from .._rollout.registry import Registry
from .._rollout.rollout import Rollout
from .._trace.turn import Turn
from ..dialects import dialect as dialect_named
from ..dialects import gemini
from ..dialects import openai_responses as responses
from ..dialects.anthropic_messages import extras as anthropic_extras
from ..dialects.base import Dialect, Failure, Target
from ..dialects.openai_chat import extras as openai_extras
from ..errors import DialectError, Refusal
from .front import ADMIT, READ_DOCUMENT, ROLLOUT_KEY, head_of
from .intake import BodyTooLarge, ClientGone, authenticate, authenticate_state
from .notices import Notices, shown
from .reply import failure_of, failure_reply
from .service_views import add_service_views

__all__ = ["make_app"]

View: TypeAlias = Callable[..., Awaitable[Response]]

log = logging.getLogger("triocept.endpoint")


def make_app(registry: Registry, *, notices: Notices, max_body: int, endpoint_id: str) -> QuartTrio:
    """The Quart-Trio application of one endpoint. `Front` has cut a rollout's prefix off its paths."""
    app = QuartTrio("triocept", static_folder=None)
    # Quart cuts a stream after 60 s, and a body (which it is not given: see `Front`) at 16 MiB.
    app.config.update(RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    app.url_map = _url_map()

    def view(function: View) -> View:
        app.view_functions[function.__name__] = function
        return function

    @view
    async def health() -> Response:
        return _json({"status": "ok", "rollouts": len(registry), "endpoint": endpoint_id})

    @view
    async def greeting() -> Response:
        return _json({"service": "triocept"})  # Claude Code's `HEAD /`, and people with a browser

    @view
    async def hello() -> Response:
        return _json({"message": "hello"})  # Claude Code 2.1.331's `HEAD /api/hello`

    @view
    async def models(version: str = "") -> Response:
        return _json(_models([_rollout().model]))

    @view
    async def model(name: str, version: str = "") -> Response:
        _rollout()
        listed = _models([name])  # agents may ask for any
        return _json(next(value for value in listed.values() if isinstance(value, list))[0])

    @view
    async def gemini_count_tokens(model: str, version: str) -> Response:
        rollout = _rollout()
        counted = gemini.parse_count_request(await document(), Target(model=model))
        return _json(gemini.render_token_count(await rollout._count_input_tokens(counted)))

    @view
    async def stored(response_id: str) -> Response:
        turn, response = _answered(response_id)
        if request.args.get("stream") == "true":
            after = request.args.get("starting_after", -1, type=int)
            body = responses.render_stored_events(response, turn.request, after=after)
            return Response(body, headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        return _json(responses.render_stored(response, turn.request, created=int(turn.started_at)))

    @view
    async def input_items(response_id: str) -> Response:
        turn, _ = _answered(response_id)
        order: Literal["asc", "desc"] = "asc" if request.args.get("order") == "asc" else "desc"
        return _json(responses.render_input_items(turn.request, order=order))

    def _answered(response_id: str) -> tuple[Turn, Answer]:
        turn = _rollout().trace.answer(response_id)
        if turn is None or turn.response is None:
            raise Refusal(
                404, f"this rollout has answered with no response {response_id!r}", should_retry=False
            )
        return turn, turn.response

    @view
    async def count_tokens() -> Response:
        rollout = _rollout()
        asked = await document()
        if isinstance(asked, dict):
            asked.setdefault("max_tokens", 1)  # not asked for here, where nothing is written
        counted = dialect_named("anthropic_messages").parse_request(asked)
        return _json(anthropic_extras.render_token_count(await rollout._count_input_tokens(counted)))

    @view
    async def input_tokens() -> Response:
        _rollout()
        counted = dialect_named("openai_responses").parse_request(await document())
        return _json(responses.render_token_count(counted))

    @view
    async def compact() -> Response:
        _rollout()
        raise Refusal(
            404,
            "there is no compaction here, for it is opaque state of a provider's own model: have the conversation "
            "summarised by a model call",
            should_retry=False,
            code="unknown_url",
        )

    def _rollout() -> Rollout:
        scope: Any = request.scope
        rollout = authenticate(head_of(scope), registry, scope[ROLLOUT_KEY])
        scope[ADMIT]()
        return rollout

    def _rollout_of_state() -> Rollout:
        scope: Any = request.scope
        rollout = authenticate_state(head_of(scope), registry, scope[ROLLOUT_KEY])
        scope[ADMIT]()
        return rollout

    async def document(optional: bool = False) -> Json:
        scope: Any = request.scope
        return await scope[READ_DOCUMENT](optional)

    add_service_views(view, _rollout, _rollout_of_state, document)

    @app.after_request
    async def identify(response: Response) -> Response:
        if (name := _asking_dialect().request_id_header) and name not in response.headers:
            response.headers[name] = f"req_{token_hex(8)}"
        return response

    @app.errorhandler(Refusal)
    @app.errorhandler(DialectError)
    @app.errorhandler(BodyTooLarge)
    async def refused(exc: Exception) -> Response:
        return _failed(notices, failure_of(exc, max_body))

    @app.errorhandler(ClientGone)
    async def gone(exc: ClientGone) -> Response:
        return Response(b"", status=400)  # nobody reads it

    @app.errorhandler(HTTPException)
    async def http_error(exc: HTTPException) -> Response:
        return _failed(notices, _failure_of_http(exc, max_body), exc)

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
    ("/v1/messages/count_tokens", "count_tokens", "POST"),
    ("/messages/count_tokens", "count_tokens", "POST"),
    ("/v1/responses/<response_id>", "stored", "GET"),
    ("/v1/responses/<response_id>/input_items", "input_items", "GET"),
    ("/v1/responses/input_tokens", "input_tokens", "POST"),
    ("/responses/input_tokens", "input_tokens", "POST"),
    ("/v1/responses/compact", "compact", "POST"),
    ("/responses/compact", "compact", "POST"),
    ("/tools", "list_tools", "GET"),
    ("/tools/<name>", "call_tool", "POST"),
    ("/user", "ask_user", "POST"),
    ("/stop", "ask_stop", "POST"),
    ("/state", "get_state", "GET"),
    ("/state", "put_state", "PUT"),
    (f"{_VERSION}/models/<path:model>:countTokens", "gemini_count_tokens", "POST"),
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
        404: f"there is no {request.path} here{_why_not_here(request.path)}",
        405: f"{request.path} does not take {request.method}",
        413: f"the body is over {max_body} bytes",
    }
    return Failure(status=status, message=words.get(status, exc.description or "error"), should_retry=False)


def _why_not_here(path: str) -> str:
    """What to do about it, where that is known."""
    if path.startswith("/v1/v1/") or path == "/v1/v1":
        return ": its base URL ends in /v1 once too often; give this client one without it"
    if path.removeprefix("/v1") == "/embeddings":
        return ": this endpoint answers model calls, and has no embeddings"
    return ""


def _failed(notices: Notices, failure: Failure, exc: HTTPException | None = None) -> Response:
    notices.warn(
        f"refused {failure.status}",
        "%s %s: %s %s",
        shown(request.method),
        shown(request.path),
        failure.status,
        shown(failure.message),
    )
    dialect = _asking_dialect()
    if failure.status == 404 and failure.code is None and exc is not None and dialect.name == "openai_chat":
        failure = msgspec.structs.replace(failure, code="unknown_url")  # else it says `model_not_found`
    reply = failure_reply(failure, dialect)
    headers = dict(reply.headers)
    if failure.status == 405 and exc is not None:
        headers["allow"] = ", ".join(sorted(getattr(exc, "valid_methods", None) or ()))
    return Response(reply.body, status=reply.status, headers=headers)


def _asking_dialect() -> Dialect:
    if _asks_in_gemini():
        return dialect_named("gemini")
    return dialect_named("anthropic_messages" if _asks_in_anthropic() else "openai_chat")


def _models(names: list[str]) -> Json:
    if _asks_in_gemini():
        return gemini.render_models(names)
    if _asks_in_anthropic():
        return anthropic_extras.render_models(names)
    return openai_extras.render_models(names)


def _asks_in_gemini() -> bool:
    """Whether the client speaks to Google: its key has a header of its own, and so have its versions."""
    return "x-goog-api-key" in request.headers or request.path.startswith(("/v1beta/", "/v1alpha/"))


def _asks_in_anthropic() -> bool:
    """Whether the client speaks to Anthropic: its SDKs say so in a header, and only it has /messages."""
    return "anthropic-version" in request.headers or "/messages" in request.path


def _json(document: Json) -> Response:
    return Response(msgspec.json.encode(document), headers={"content-type": "application/json"})
