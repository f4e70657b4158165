"""The first ASGI application: it passes model calls to `intake`, and all other requests to Quart.

Rules:

1. While the end of a response is sent, and after that, the application receives no disconnect message. (hypercorn
   queues such a message after the last byte. On this message, Quart-Trio would cancel the task that closes the
   connection or marks it as idle.)
2. A `KeyboardInterrupt`, or any other exception that is neither an `Exception` nor a cancellation, ends the endpoint.
   (hypercorn would only log such an exception as a failed request.)
3. If a request is answered before its body was read, the whole answer is sent first. Then the body is received and
   discarded for up to `LINGER` seconds, and the connection is closed. An immediate close would reset the connection,
   and the client would lose the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import trio
from quart import wrappers

from .._canonical.content import Json
from .._rollout.answer import ClientGone, Condition
from .._rollout.rollout_state import RolloutState
from .._trace.raw import RawResponse
from .._util.failures import split_cancelled
from ..dialects import dialect as dialect_named
from ..errors import Refusal
from .admission import Admission, KeyHolder, Share
from .delivery import write_failure
from .failure import failure_of, failure_reply
from .intake import (
    BOTH_LENGTHS,
    LINGER,
    Route,
    Routes,
    intake,
    read_document,
    split_rollout,
    split_target,
)
from .keys import Keys, text_headers
from .mcp import serve_mcp
from .notices import shown
from .replies import Replies, is_mcp
from .transport import READ_BODY, STATE_KEY, BodyTooLarge, Head, Reply, Transport, View
from .websocket import serve_websocket
from .websocket_connection import WebSocket

if TYPE_CHECKING:
    from .connection import Connection

Message: TypeAlias = dict[str, Any]
Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

HEAD = "triocept.head"
"""Key in the ASGI scope for the request's `Head`."""
READ_DOCUMENT = "triocept.read_document"
"""Key in the ASGI scope for the function that returns a request's JSON body. With the argument True, the function
returns None for an empty body."""
ROLLOUT_KEY = "triocept.rollout_id"
"""Key in the ASGI scope for the id of the rollout that the path names. None if the path names no rollout."""

_DISCONNECTED: tuple[Any, ...] = (ClientGone, getattr(wrappers, "ClientDisconnectedError", ClientGone))
"""Exceptions that can be raised after a client has hung up.

Quart raises the second class, `ClientDisconnectedError`. Quart 0.22 (on Python 3.11 and 3.12) does not define this
class."""


class Front:
    """The ASGI application that hypercorn calls for each request."""

    def __init__(
        self,
        quart: App,
        routes: Routes,
        keys: Keys,
        replies: Replies,
        *,
        admission: Admission,
        max_body: int,
        websocket: bool,
        on_fatal: Callable[[BaseException], None],
        view: View | None = None,
    ) -> None:
        self.routes = routes
        self._view = view
        self.intake: Callable[[Route, Head, Transport], Awaitable[None]] = partial(
            intake, keys=keys, max_body=max_body, admission=admission
        )
        """Function that answers one model call: `intake` with the arguments of this endpoint."""
        self.replies = replies
        self._quart = quart
        self.keys = keys
        self._admission = admission
        self._max_body = max_body
        self._websockets = websocket
        self._on_fatal = on_fatal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                try:
                    await self._http(scope, HTTPCycle(scope, receive, send))
                except* _DISCONNECTED:  # the client has hung up
                    pass
            else:
                await self._quart(scope, receive, send)
        except BaseException as exc:
            self._raise_unless_fatal(exc)

    def _raise_unless_fatal(self, exc: BaseException) -> None:
        fatal = fatal_of(exc)
        if fatal is None:
            raise exc
        self._on_fatal(fatal)
        cancelled, _ = split_cancelled(exc)
        if cancelled is not None:
            raise cancelled from None

    def holder_of_key(self, head: Head) -> KeyHolder | None:
        if (view := self._view_of(head)) is not None:
            return view if view.admits(head) else None
        return self.keys.holder(head)

    def in_front(self, head: Head, *, keyed: bool) -> Reply | None:
        if (view := self._view_of(head)) is not None:
            return view.refusal(head)
        return self.replies.in_front(head, keyed=keyed)

    def _view_of(self, head: Head) -> View | None:
        return self._view if self._view is not None and self._view.takes(head.path) else None

    async def websocket(self, head: Head, socket: WebSocket) -> None:
        """Serve the Responses dialect over a websocket, or refuse the websocket's handshake.

        Codex's built-in provider tries a websocket first. If the handshake is refused with 426, Codex uses POST
        immediately. After 404 or 400, Codex gives up. After any other status, Codex tries seven times (codex 0.169).
        """
        await socket.begin_request(self.keys.holder(head))
        try:
            rollout = self._rollout_of(head, socket)
        except Refusal as refusal:
            self._admission.notices.warn(
                f"websocket {refusal.status}",
                "websocket %s: %s %s",
                shown(head.path),
                refusal.status,
                shown(refusal.message),
            )
            with suppress(ClientGone):
                await socket.refuse(failure_reply(failure_of(refusal, 0), dialect_named("openai_responses")))
            return
        try:
            await serve_websocket(
                head,
                rollout,
                socket,
                keys=self.keys,
                max_body=self._max_body,
                limits=rollout.addresses.limits,
                admission=self._admission,
            )
        except BaseException as exc:
            self._raise_unless_fatal(exc)

    def _rollout_of(self, head: Head, socket: WebSocket) -> RolloutState:
        rollout_id, path = split_rollout(head.path)
        if path not in RESPONSES:
            message = "websockets are supported only at …/v1/responses"
            raise Refusal(404, message, should_retry=False, code="unknown_url")
        if not self._websockets:
            raise Refusal(426, "the endpoint accepts no websockets: use POST", should_retry=False)
        if socket.fault is not None:
            raise Refusal(400, socket.fault, should_retry=False)
        rollout = self.keys.rollout(head, rollout_id)
        if rollout.ending is not None:
            raise rollout.ending.with_traceback(None)  # the exception is raised many times
        return rollout

    async def _http(self, scope: Scope, cycle: HTTPCycle) -> None:
        head, connection = head_of(scope, self.keys.places), scope["state"][STATE_KEY]
        holder = self.holder_of_key(head)
        await connection.begin_request(holder)
        route = self.routes.match(head.path, head.query)
        if route is not None:
            async with trio.open_nursery() as nursery:
                cycle.nursery = nursery
                with suppress(ClientGone):  # suppressed here, too, because the nursery would wrap it
                    await self.intake(route, head, cycle)
                    await cycle.stall()
                nursery.cancel_scope.cancel()
        elif "transfer-encoding" in head.headers and "content-length" in head.headers:
            with suppress(ClientGone):
                cycle.respond(Reply(400, {"content-type": "application/json"}, _BOTH_LENGTHS))
                await cycle.flush()
        elif (reply := self.in_front(head, keyed=holder is not None)) is not None:
            with suppress(ClientGone):
                cycle.respond(reply)
                await cycle.flush()
        elif (view := self._view_of(head)) is not None:
            share = Share(self._admission.waiting, view)
            try:
                scope = {
                    **scope,
                    "path": head.path,
                    READ_BODY: partial(cycle.receive_body, MOST_DECISION, share),
                }
                await view(scope, cycle.receive_without_body, cycle.forward)
            finally:
                share.release()
        else:
            rollout = self.keys.holder(head)
            rollout_id, path = split_rollout(head.path)
            if is_mcp(path):
                await self._mcp(scope, head, rollout_id, cycle)
                return
            scope = {
                **scope,
                "path": path,
                HEAD: head,
                ROLLOUT_KEY: rollout_id,
                READ_DOCUMENT: partial(self._read_document, head, cycle, rollout),
            }
            await self._quart(scope, cycle.receive_without_body, cycle.forward)

    async def _read_document(
        self, head: Head, cycle: HTTPCycle, rollout: RolloutState | None, optional: bool
    ) -> Json:
        assert rollout is not None, "a route that reads a body has checked the key"
        share = Share(self._admission.waiting, rollout)
        try:
            return await read_document(
                head, cycle, self._max_body, self._admission.limits, share, optional=optional
            )
        finally:
            share.release()

    async def _mcp(self, scope: Scope, head: Head, rollout_id: str | None, cycle: HTTPCycle) -> None:
        share: Share | None = None

        async def body() -> bytes:
            assert share is not None
            return await cycle.receive_body(self._max_body, share)

        try:
            rollout = self.keys.rollout(head, rollout_id)
            share = Share(self._admission.waiting, rollout)
            await serve_mcp(rollout, scope, body, share.release, cycle.receive, cycle.forward, self._max_body)
        except ClientGone:
            return
        except (Refusal, BodyTooLarge) as exc:
            failure = failure_of(exc, self._max_body)
            if failure.status == 501:  # an agent continues without its tools, and logs nothing
                self._admission.notices.warn(
                    "mcp", "the agent of rollout %s gets no tools over MCP: %s", rollout.id, failure.message
                )
            else:
                said = (shown(head.path), failure.status, shown(failure.message))
                self._admission.notices.warn(f"refused {failure.status}", "%s: %s %s", *said)
            with suppress(ClientGone):
                await write_failure(failure, dialect_named("openai_chat"), cycle)
        finally:
            if share is not None:
                share.release()


RESPONSES = ("/v1/responses", "/responses")
MOST_DECISION = 16 * 1024 * 1024
"""Maximum bytes of a decision that is sent from the endpoint's web page."""
_BOTH_LENGTHS = b'{"error":{"message":"%b"}}' % BOTH_LENGTHS.encode()


class HTTPCycle:
    """An ASGI request with its response.

    The cycle is also a `Transport`, through which `intake` answers a model call.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._connection: Connection = scope["state"][STATE_KEY]
        self._receive = receive
        self._send = send
        self.nursery: trio.Nursery | None = None
        """Nursery for the task that waits until the client hangs up. None before `intake` runs."""
        self._requested = False
        """True if the application has requested the body."""
        self._read = trio.Event()
        """Set when the whole body was read."""
        names = dict(self._headers)
        if names.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in names:
            self._read.set()
        self._empty_sent = False
        """True if Quart has received the empty body."""
        self._early = False
        """True if the response began before the request's body was read."""
        self._lingering: trio.CancelScope | None = None
        self._ending = False
        self._gone = trio.Event()
        """Set when the client has hung up."""
        self._watched = False
        self._stalls = False
        """True if the response stalls: no further byte is sent, but the connection stays open."""
        self._start: Message | None = None
        """The head of the response, which is sent together with the first piece of the body."""
        self._piece = b""
        """The piece of the body that the next call of `flush` sends."""
        self._last = False
        """True if `_piece` is the last piece of the body."""
        self._unsent = False

    async def receive(self) -> Message:
        """Return the next ASGI message.

        While the end of the response is sent, and after that, no disconnect message is returned.
        """
        message = await self._next()
        if message["type"] == "http.disconnect" and self._ending:
            await trio.sleep_forever()  # cancelled when the application returns
        return message

    async def receive_without_body(self) -> Message:
        """Return the next ASGI message for Quart: a request with an empty body, later a disconnect.

        Quart does not get the body, because it would read the body before the key is checked, and without a count of
        the bytes. The functions that answer requests call `receive_body` to read the body.
        """
        if not self._empty_sent:
            self._empty_sent = True
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._read.wait()
        while (message := await self.receive())["type"] != "http.disconnect":
            pass
        return message

    async def forward(self, message: Message) -> None:
        """Send the client `message`, an ASGI message of an application."""
        if message["type"] == "http.response.start" and not self._read.is_set():
            self._early = True
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._ending = True
            if self._early:
                await self._send({**message, "more_body": True})
                # Discard the rest of the body, unless the client waits for `100 Continue` before it sends one.
                expects = dict(self._headers).get(b"expect", b"").lower() == b"100-continue"
                with trio.move_on_after(LINGER) as self._lingering:
                    while not self._read.is_set() and (self._requested or not expects):
                        await self._next()
                message = {**message, "body": b""}
        await self._send(message)

    async def _next(self) -> Message:
        """Wait for the next ASGI message of this request, and return it."""
        if not self._requested:
            self._requested = True
            await self._connection.send_continue()
        message = await self._receive()
        self._connection.note_taken(len(message.get("body", b"")))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._read.set()
            if self._lingering is not None:
                self._lingering.cancel()
        return message

    async def receive_body(self, cap: int, share: Share) -> bytes:
        length = dict(self._headers).get(b"content-length", b"")
        if length.isdigit() and int(length) > cap:
            raise BodyTooLarge
        body = bytearray()  # not a list of pieces: a piece of one byte would take 34 bytes as an object
        while not self._read.is_set():
            message = await share.next(self._next, self._connection)
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if len(body) + len(piece) > cap:
                raise BodyTooLarge
            if piece and str(len(piece)).encode() != length:  # a body in one piece needs no count
                share.add(len(piece))
            body += piece
        return bytes(body)

    def on_gone(self, callback: Callable[[], None]) -> None:
        assert self.nursery is not None
        self._watched = True

        @trio.lowlevel.enable_ki_protection
        async def watch() -> None:
            while (await self.receive())["type"] != "http.disconnect":
                pass
            self._gone.set()
            callback()

        self.nursery.start_soon(watch)

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        self._start = {"type": "http.response.start", "status": status, "headers": encoded}

    def write(self, data: bytes, *, last: bool = False) -> bool:
        if last and self._start is not None:
            self._start["headers"].append((b"content-length", str(len(data)).encode()))
        self._piece, self._last, self._unsent = data, last, True
        return False

    def respond(self, reply: Reply) -> bool:
        self.start(reply.status, reply.headers)
        return self.write(reply.body, last=True)

    @property
    def full(self) -> bool:
        return self._unsent

    async def wait(self, news: Condition, until: float) -> None:
        with trio.CancelScope(deadline=until):
            await news.wait()

    async def flush(self) -> None:
        if self._unsent:
            start, self._start = self._start, None
            more = start is not None or not self._last
            if start is not None:  # the head and the first piece are sent together, the end separately
                self._connection.cork()
                await self.forward(start)
            data, self._piece = self._piece, b""  # release the data: a client may read slowly
            await self.forward({"type": "http.response.body", "body": data, "more_body": more})
            del data
            if start is not None:
                await self._connection.uncork()
            if more and self._last:
                await self.forward({"type": "http.response.body", "body": b"", "more_body": False})
            self._unsent = False
        if self._connection.gone:
            raise ClientGone

    def check_raw(self, raw: RawResponse) -> None:
        self._connection.check_raw(raw)

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        self._stalls = ends and raw.end == "stall"
        self._ending = ends and not self._stalls  # a disconnect that this end causes is not delivered
        await self._connection.send_raw(raw, begins=begins, ends=ends)

    async def stall(self) -> None:
        """If the raw response ends with `stall`, wait until the client disconnects or the server stops."""
        if not self._stalls:
            return
        if not self._watched:
            self.on_gone(lambda: None)
        async with trio.open_nursery() as nursery:

            async def wait_ending() -> None:
                await self._connection.wait_ending()
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_ending)
            await self._gone.wait()
            nursery.cancel_scope.cancel()
        await self.abort()

    async def abort(self) -> None:
        await self._connection.abort()


def head_of(scope: Scope, key_places: Iterable[str]) -> Head:
    path, authority = split_target(scope["raw_path"].decode("ascii"))
    return Head(
        method=scope["method"],
        path=path,
        query=scope["query_string"].decode("latin-1"),
        headers=text_headers(scope["headers"], key_places),
        authority=authority,
    )


def fatal_of(exc: BaseException) -> BaseException | None:
    """Return an exception in `exc` that must end the endpoint, such as a KeyboardInterrupt, or None."""
    if isinstance(exc, BaseExceptionGroup):
        return next((fatal for inner in exc.exceptions if (fatal := fatal_of(inner)) is not None), None)
    return None if isinstance(exc, (Exception, trio.Cancelled)) else exc
