"""The interface that a connection has for a model call; both HTTP implementations follow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import trio

from .._rollout.answer import ClientGone, Condition
from .._trace.raw import RawResponse
from .admission import Share

STATE_KEY = "triocept.connection"
"""Key in an ASGI scope's `state`; its value is the `Connection` of the request."""

READ_BODY = "triocept.read_body"
"""Scope key of the function that returns the body of a request to the view."""
GONE = (ClientGone, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""Exceptions that a connection raises if its client has left, or if it was closed here."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of an HTTP request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Headers, with names in lower case. If a name occurs several times, only its last value."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A whole response."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class BodyTooLarge(Exception):
    """The body exceeds the limit; the bytes above the limit were not read."""


class View(Protocol):
    """The routes under `/view`, as an ASGI application, and the checks in front of them. See `_view`."""

    on_end: set[Callable[[], object]]
    ended: trio.Event

    def takes(self, path: str) -> bool:
        """Return True if the path belongs to the view."""

    def admits(self, head: Head) -> bool:
        """Return True if the request has the view's key."""

    def refusal(self, head: Head) -> Reply | None:
        """Return the refusal of a request, or None."""

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        """Answer a request that `refusal` has not refused."""

    def end(self) -> None:
        """End all streams."""


class Transport(Protocol):
    """A connection for one model call. Written bytes are sent immediately if possible, else kept for `flush`."""

    async def receive_body(self, cap: int, share: Share) -> bytes:
        """Receive the whole body. The client must be authenticated: bodies of other clients are not read.

        Waiting bytes are counted in `share`.

        Raises:
            Refusal: see `Share`.
            BodyTooLarge: as soon as the body is known to exceed `cap` bytes.
            ClientGone: the client has hung up before the end of the body.
        """

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the client hangs up before the end of the answer is written."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin the response. Its head is sent together with the first piece of the body."""

    def write(self, data: bytes, *, last: bool = False) -> bool:
        """Write a piece of the body. Return True if all is sent; otherwise, call `flush` before the next write."""

    def respond(self, reply: Reply) -> bool:
        """Write a whole response, as `start` and `write` do; return as `write` does."""

    @property
    def full(self) -> bool:
        """True if bytes are still to be sent."""

    async def wait(self, news: Condition, until: float) -> None:
        """Wait until `news` is notified, or until the time `until` of trio's clock. Cancellation: immediate."""

    async def flush(self) -> None:
        """Send the bytes that are still to be sent.

        Raises:
            ClientGone: the client has hung up, or reads no more bytes. The connection was broken off.

        Cancellation: breaks the connection off.
        """

    def check_raw(self, raw: RawResponse) -> None:
        """Raise ValueError if the protocol cannot express these raw bytes."""

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        """Send raw bytes in place of a response, without framing, then end the connection as `raw` specifies.

        If `raw` ends with a stall, the connection stays open after the call. Raw bytes that are generated while they
        are sent come in parts: the first part, with the head, has `begins`, and the last part has `ends`.

        Raises:
            ClientGone: see `flush`.

        Cancellation: see `flush`.
        """

    async def abort(self) -> None:
        """Break the connection off, so that the client notices that its answer is incomplete."""
