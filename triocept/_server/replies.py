"""Make responses that need no rollout: public routes, refusals of requests without a key, errors.

These responses are created without Quart, because Quart takes fifty times as long, and the requests of a client without
a key must take little time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from secrets import token_hex
from typing import Any, final

import msgspec
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from .._canonical.content import Json
from ..dialects import Dialect, Failure
from ..errors import Refusal
from .failure import failure_of, failure_reply
from .intake import split_rollout
from .keys import Keys
from .model_views import USUAL, client_dialect, side_views
from .notices import Notices, shown
from .transport import Head, Reply


@final
class Replies:
    """Creates the responses of one endpoint that need no rollout."""

    def __init__(
        self,
        keys: Keys,
        dialects: Mapping[str, Dialect],
        *,
        notices: Notices,
        max_body: int,
        endpoint_id: str,
    ) -> None:
        self._keys = keys
        self._registry = keys.registry
        self._dialects = dialects
        self._notices = notices
        self._max_body = max_body
        self._endpoint_id = endpoint_id
        self._routes = url_map(tuple(dialects.values())).bind("triocept")

    def in_front(self, head: Head, *, keyed: bool) -> Reply | None:
        """Return the response to a request that needs no Quart. Return None if Quart must answer the request.

        Args:
            head: head of a request that is not a model call.
            keyed: True if the request contains a key of this endpoint. Only requests to public routes are then answered
                here.
        """
        rollout_id, path = split_rollout(head.path)
        if is_mcp(path):
            return None if keyed else self._refused_without_key(head, rollout_id, "mcp")
        try:
            route, _ = self._routes.match(path, head.method)
        except RequestRedirect:
            return None
        except HTTPException as exc:
            return None if keyed else self.failed(head, exc)
        match route:
            case "health":
                document: Json = {
                    "status": "ok",
                    "rollouts": len(self._registry),
                    "endpoint": self._endpoint_id,
                }
            case "greeting":  # Claude Code's `HEAD /`, and people with a browser
                document = {"service": "triocept"}
            case "hello":  # Claude Code 2.1.331's `HEAD /api/hello`
                document = {"message": "hello"}
            case _:
                return None if keyed else self._refused_without_key(head, rollout_id, route)
        headers = {"content-type": "application/json"}
        if name := self._dialect_of(head).request_id_header:
            headers[name] = f"req_{token_hex(8)}"
        return Reply(200, headers, msgspec.json.encode(document))

    def _refused_without_key(self, head: Head, rollout_id: str | None, route: str) -> Reply | None:
        try:
            if route in ("get_state", "put_state"):
                self._keys.rollout_of_state(head, rollout_id)
            else:
                self._keys.rollout(head, rollout_id)
        except Refusal as refusal:
            return self.refused(head, refusal, self._dialects[USUAL] if route == "mcp" else None)
        return None

    def refused(self, head: Head, exc: Exception, dialect: Dialect | None = None) -> Reply:
        """Log a request that was refused with an exception, and return the error response.

        The error is rendered in `dialect`. None means the dialect that the request indicates.
        """
        failure = failure_of(exc, self._max_body)
        self._note(head, failure)
        dialect = dialect or self._dialect_of(head)
        if failure.status == 404 and dialect.no_route is not None:
            # Without this, the code of the error would be `model_not_found`.
            failure = msgspec.structs.replace(failure, code=failure.code or "not_found")
        return failure_reply(failure, dialect)

    def failed(self, head: Head, exc: HTTPException) -> Reply:
        """Log a request that matches no route, or that Quart cannot read, and return the error response."""
        rollout_id, path = split_rollout(head.path)
        dialects = self._dialects.values()
        if exc.code in (404, 405) and (unserved := refusal_of_unserved(path, dialects)):
            try:
                self._keys.rollout(head, rollout_id)
            except Refusal as refusal:
                unserved = refusal
            return self.refused(head, unserved)
        why = ""
        if path.startswith("/v1/v1/") or path == "/v1/v1":
            why = ": this client adds /v1 to its base URL itself, so give it a base URL that does not end in /v1"
        words = {
            404: f"this endpoint has no path {path}{why}",
            405: f"{path} does not accept {head.method}",
            413: f"the body is larger than {self._max_body} bytes, which is the limit of this endpoint",
        }
        status = exc.code or 500
        message = words.get(status, exc.description or "error")
        failure = Failure(status=status, message=message, should_retry=False)
        self._note(head, failure)
        dialect = self._dialect_of(head)
        if failure.status == 404:
            failure = msgspec.structs.replace(failure, code=dialect.no_route)
        reply = failure_reply(failure, dialect)
        if failure.status == 405:
            reply.headers["allow"] = ", ".join(sorted(getattr(exc, "valid_methods", None) or ()))
        return reply

    def _dialect_of(self, head: Head) -> Dialect:
        return client_dialect(self._dialects, split_rollout(head.path)[1], head.headers)

    def _note(self, head: Head, failure: Failure) -> None:
        rollout_id, path = split_rollout(head.path)
        said = f"{shown(head.method)} {shown(path)}: {failure.status} {shown(failure.message)}"
        self._notices.warn(f"refused {failure.status}", "%s", said)
        self._registry.note_refusal(rollout_id, said)


def is_mcp(path: str) -> bool:
    """Return True if `path` is the path of the MCP server. `path` must not contain the prefix of a rollout."""
    return path.rstrip("/") == "/mcp"


# google-genai 3 uses v1 if no version is given, gemini-cli v1beta.
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
    ("/gate", "ask_gate", "POST"),
    ("/gate/<hook>", "ask_gate", "POST"),
    ("/reset", "reset", "POST"),
    ("/state", "get_state", "GET"),
    ("/state", "put_state", "PUT"),
)


def _beside(dialects: Iterable[Dialect]) -> Iterator[tuple[str, str, str]]:
    """Yield all routes of these dialects, except the routes of model calls.

    Each route is yielded twice: as it is, and with the dialect's base path before it.
    """
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
def url_map(dialects: tuple[Dialect, ...]) -> Any:
    """Return the map of the routes that every endpoint has, and of all routes of `dialects` except model calls.

    The result is cached and shared by all endpoints, because werkzeug takes 0.3 ms to compile a route.
    """
    routes = QuartTrio.url_map_class(host_matching=False)
    routes.strict_slashes = False
    for path, name, method in (*_ROUTES, *_beside(dialects)):
        routes.add(QuartTrio.url_rule_class(path, endpoint=name, methods={method, "OPTIONS"}))
    return routes


_WHAT_THERE_IS = "it answers only model calls, embeddings, moderations, token counts, and the list of models"
_NAME = re.compile(r"<(?:(any\([^()]*\)|path|[^<>:]+):)?\w+>")


def refusal_of_unserved(path: str, dialects: Iterable[Dialect]) -> Refusal | None:
    """Return the refusal of a path that providers serve but triocept does not.

    Return None for any other path. `path` must not contain the prefix of a rollout.
    """
    paths = dict.fromkeys(
        path
        for dialect in dialects
        for below in dialect.not_served
        for path in (below, f"{dialect.base_path}{below}")
    )
    if _pattern(tuple(paths)).fullmatch(path) is None:
        return None
    return Refusal(501, f"this endpoint has no path {path}: {_WHAT_THERE_IS}", should_retry=False)


@lru_cache(maxsize=8)
def _pattern(paths: tuple[str, ...]) -> re.Pattern[str]:
    """Return a regular expression that matches these paths and all paths below them."""
    patterns = []
    for path in paths:
        pattern, at = "", 0
        for name in _NAME.finditer(path):
            kind = name[1] or ""
            if kind.startswith("any("):
                choices = "|".join(re.escape(each.strip()) for each in kind[4:-1].split(","))
                found = f"(?:{choices})"
            else:
                found = ".+" if kind == "path" else "[^/]+"
            pattern += re.escape(path[at : name.start()]) + found
            at = name.end()
        patterns.append(pattern + re.escape(path[at:]))
    return re.compile(f"(?:{'|'.join(patterns) or '(?!)'})(?:/.*)?", re.DOTALL)
