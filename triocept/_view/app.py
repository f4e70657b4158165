"""Serve the routes of the view, and check each request before its route is called.

Rules (see `protocol` for the routes):

1. `Host` must be an IP address, `localhost`, or a name that was passed to the endpoint. Otherwise a web site whose name
   resolves to this machine could read the view (DNS rebinding).
2. If a request has the header `Origin`, it must be the origin of the page. The key is sent in a header, never in a
   cookie, so that a form on another site cannot send the key.
3. Without the view's key, only the files of the page are served. Keys of rollouts do not open the view, and the view's
   key opens no rollout. The key is checked by `refusal`, and again before each function that serves more than the page.
4. The files of the page are read from the disk only once, and not for each request.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address
from secrets import token_urlsafe
from typing import Any, Literal, TypeAlias, final

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from .._canonical.content import Json
from .._rollout.answer import ClientGone
from .._server.transport import READ_BODY, BodyTooLarge, Head, Reply
from .._util.secrets import OWN_TEXT
from ..errors import Refusal
from .files import POLICY, assets, index
from .live import LiveView, Undecidable
from .source import Source

PATH = "/view"
MOST_BODY = 16 * 1024 * 1024
"""Maximum bytes of the body of a request with a decision. Such a body may contain the changed arguments of a tool call,
which may be long.
"""
_LAST = 0.1
"""Maximum seconds, after the endpoint has ended, in which viewers can still read the last events."""
_NO_KEY = "the key of the view is missing or wrong: open the view_url of the endpoint"
_PUBLIC = ("page", "asset")
"""Names of the functions that answer requests without a key."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::\d+)?")
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_JSON = {**_HEADERS, "content-type": "application/json"}

Receive: TypeAlias = Callable[[], Any]
Send: TypeAlias = Callable[[Any], Any]


class _Decide(msgspec.Struct):
    id: str
    kind: Literal["approve", "modify", "reject", "answer", "terminate"]
    arguments: str = ""
    reason: str = ""
    by: str = ""


@final
class ViewApp:
    """The view of one endpoint, as an ASGI application.

    Args:
        source: the runs that the page shows.
        hosts: function that returns the host names that requests may use, in addition to IP addresses and `localhost`.
        scheme: the scheme of the endpoint's URLs.
    """

    def __init__(
        self, source: Source, hosts: Callable[[], Collection[str]], scheme: Literal["http", "https"]
    ) -> None:
        self.source = source
        self.key: str = f"{OWN_TEXT}view-{token_urlsafe(32)}"
        self.on_end: set[Callable[[], object]] = set()
        """Functions that are called when the view ends. They let the connections that sent the view's key expire."""
        self.ended = trio.Event()
        self._hosts = hosts
        self._scheme = scheme
        self._quart: Any = _make_app(source, self._has_key)
        self._requests: set[trio.CancelScope] = set()

    def takes(self, path: str) -> bool:
        return path == PATH or path.startswith(f"{PATH}/")

    def admits(self, head: Head) -> bool:
        return self._has_key(head.headers.get("authorization", ""))

    def _has_key(self, authorization: str) -> bool:
        kind, _, key = authorization.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self.key.encode())

    def refusal(self, head: Head) -> Reply | None:
        """Return the reply with which a request is refused; None if the request is accepted."""
        host = head.headers.get("host", "")
        if not self._is_ours(host):
            return _refused(
                421, "this address does not belong to this endpoint: open the view_url of the endpoint"
            )
        origin = head.headers.get("origin")
        if origin not in (None, f"{self._scheme}://{host}", f"https://{host}"):
            return _refused(
                403, "only the page of this view may send this request: open the view_url of the endpoint"
            )
        if (
            head.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            and head.path != f"{PATH}/"
        ):
            return _refused(
                403, "only the page of this view may send this request: open the view_url of the endpoint"
            )
        if head.path.startswith(f"{PATH}/api/") and not self.admits(head):
            return _refused(401, _NO_KEY)
        if head.method == "POST" and not head.headers.get("content-type", "").startswith("application/json"):
            return _refused(415, "send JSON, with content-type: application/json")
        return None

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower()
        try:
            ip_address(name)
        except ValueError:
            return name == "localhost" or name in self._hosts()
        return True

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        with trio.CancelScope() as request_scope:
            self._requests.add(request_scope)
            try:
                await self._quart(scope, receive, send)
            finally:
                self._requests.discard(request_scope)

    def end(self) -> None:
        """End the stream of each viewer after its last event.

        Cancel streams that have not ended within `_LAST` seconds.
        """
        if isinstance(self.source, LiveView):
            self.source.close()
        self.ended.set()
        for callback in tuple(self.on_end):
            callback()
        for scope in self._requests:
            scope.deadline = trio.current_time() + _LAST


def _refused(status: int, message: str) -> Reply:
    return Reply(status, dict(_JSON), msgspec.json.encode({"error": {"message": message}}))


def _json(document: Json, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status=status, headers=_JSON)


def _found(document: Json | None) -> Response:
    if document is None:
        return _error(404, "there is no such run or call: it has not begun, or is not kept any more")
    return _json(document)


def _error(status: int, message: str, **more: Json) -> Response:
    return _json({"error": {"message": message}, **more}, status)


def _make_app(source: Source, has_key: Callable[[str], bool]) -> QuartTrio:
    app = QuartTrio("triocept view", static_folder=None)
    app.config.update(RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None, MAX_CONTENT_LENGTH=None)
    app.url_map.strict_slashes = False
    api = f"{PATH}/api"

    @app.before_request
    async def check_key() -> Response | None:
        if request.endpoint in (None, *_PUBLIC) or has_key(request.headers.get("authorization", "")):
            return None
        return _error(401, _NO_KEY)

    @app.get(f"{PATH}/")
    async def page() -> Response:
        if request.path == PATH:
            return Response(b"", status=308, headers={**_HEADERS, "location": f"{PATH}/"})
        kind = "text/html; charset=utf-8"
        return Response(
            index(), headers={**_HEADERS, "content-type": kind, "content-security-policy": POLICY}
        )

    @app.get(f"{PATH}/assets/<path:name>")
    async def asset(name: str) -> Response:
        if (found := assets().get(name)) is None:
            return _error(404, "there is no such file")
        return Response(found.data, headers={**_HEADERS, "content-type": found.type})

    @app.get(f"{api}/snapshot")
    async def snapshot() -> Response:
        return _json(source.snapshot())

    @app.get(f"{api}/stream")
    async def stream() -> Response:
        last = request.headers.get("Last-Event-ID", "")
        known = int(last) if re.fullmatch(r"\d{1,15}", last) else None
        headers = {**_HEADERS, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        return Response(source.stream(known), headers=headers)

    @app.get(f"{api}/runs/<run>/turns")
    async def turns(run: str) -> Response:
        return _found(source.turns(run))

    @app.get(f"{api}/runs/<run>/turns/<call>")
    async def detail(run: str, call: str) -> Response:
        return _found(source.runs[run].detail(call) if run in source.runs else None)

    @app.get(f"{api}/runs/<run>/turns/<call>/raw")
    async def raw(run: str, call: str) -> Response:
        return _found(source.runs[run].raw(call) if run in source.runs else None)

    @app.get(f"{api}/runs/<run>/file")
    async def file(run: str) -> Response:
        if (found := await source.file(run)) is None:
            return _found(None)
        return Response(found, headers={**_HEADERS, "content-type": "application/octet-stream"})

    @app.get(f"{api}/runs/<run>/messages")
    async def messages(run: str) -> Response:
        try:
            return _found(source.messages(run, request.args.get("numbers", "")))
        except ValueError as exc:
            return _error(400, str(exc))

    @app.get(f"{api}/runs/<run>/tools/<int:number>")
    async def tools(run: str, number: int) -> Response:
        return _found(source.tools(run, number))

    @app.get(f"{api}/runs/<run>/diff")
    async def diff(run: str) -> Response:
        args = request.args
        found = source.runs.get(run)
        return _found(found and found.diff(args.get("before", ""), args.get("after", "")))

    @app.get(f"{api}/search")
    async def search() -> Response:
        text = request.args.get("q", "")
        if not text:
            return _error(400, "q is missing or empty: it must be the text to search for")
        try:
            return _json(await source.search(text, request.args.get("run")))
        except ValueError as exc:
            return _error(400, str(exc))

    @app.get(f"{api}/compare")
    async def compare() -> Response:
        return _found(await source.compare(request.args.get("a", ""), request.args.get("b", "")))

    @app.post(f"{api}/decide")
    async def decide() -> Response:
        scope: Any = request.scope
        body = await scope[READ_BODY]()
        if not isinstance(source, LiveView):
            return _error(409, "these runs are recorded, so no tool call waits for a decision", decision=None)
        try:
            given = msgspec.json.decode(body, type=_Decide)
            text = given.arguments if given.kind == "modify" else given.reason
            source.decide(given.id, given.kind, text, given.by)
        except Undecidable as exc:
            return _error(409, str(exc), decision=exc.decision)
        except (ValueError, RecursionError) as exc:
            return _error(400, str(exc))
        return _json({"decided": True})

    @app.errorhandler(HTTPException)
    async def http_error(exc: HTTPException) -> Response:
        return _error(exc.code or 500, exc.description or "error")

    @app.errorhandler(ClientGone)
    async def gone(exc: ClientGone) -> Response:
        return Response(b"", status=400)  # the client is gone

    @app.errorhandler(BodyTooLarge)
    async def too_large(exc: BodyTooLarge) -> Response:
        return _error(413, f"the body is over {MOST_BODY} bytes")

    @app.errorhandler(Refusal)
    async def refused(exc: Refusal) -> Response:
        return _error(exc.status, exc.message)

    return app
