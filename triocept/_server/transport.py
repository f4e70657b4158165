"""The methods of a connection with which a model call is read and answered.

Both HTTP implementations, `http11` and `front.HTTPCycle`, have these methods.
"""

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
"""Key in the ASGI scope for the function with which the view reads the body of a request."""
GONE = (ClientGone, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""Exceptions that a connection raises if its client has disconnected, or if this program has closed the connection."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of an HTTP request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Headers, with names in lower case, as `keys.text_headers` returns them."""
    authority: str = ""
    """Scheme, user and host of an absolute URL (RFC 9112, 3.2.2). Empty if the URL is only a path, which is the usual
    case."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class BodyTooLarge(Exception):
    """Error: a request body exceeds the limit. The bytes above the limit were not read."""


class View(Protocol):
    """The ASGI application for the paths under `/view`, which also checks the requests. See the package `_view`."""

    on_end: set[Callable[[], object]]
    ended: trio.Event

    def takes(self, path: str) -> bool:
        """Return True if the view answers requests to this path."""

    def admits(self, head: Head) -> bool:
        """Return True if the request contains the view's own key."""

    def refusal(self, head: Head) -> Reply | None:
        """Return the response that refuses the request. Return None if the request is allowed."""

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        """Answer a request to which `refusal` returns None."""

    def end(self) -> None:
        """End all event streams of the view."""


class Transport(Protocol):
    """The connection of one model call: the methods with which the call is received and answered.

    `write` sends the bytes that the kernel accepts; `flush` sends the remaining bytes.
    """

    async def receive_body(self, cap: int, share: Share) -> bytes:
        """Receive the whole body of the request. Call this method only for an authenticated client.

        The received bytes are counted in `share` until they are parsed.

        Raises:
            Refusal: see `Share`.
            BodyTooLarge: the body exceeds `cap` bytes. This error is raised as soon as the body is known to be too
                large.
            ClientGone: the client has hung up before the end of the body.
        """

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call `callback` if the client disconnects before the whole response is written."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin the response. The head is sent together with the first piece of the body."""

    def write(self, data: bytes, *, last: bool = False) -> bool:
        """Write a piece of the body. Return True if all bytes are sent.

        If some bytes are not sent, call `flush` before the next write.
        """

    def respond(self, reply: Reply) -> bool:
        """Write a whole response. Like `write`, return True if all bytes are sent."""

    @property
    def full(self) -> bool:
        """True if some written bytes are not sent yet."""

    async def wait(self, news: Condition, until: float) -> None:
        """Wait until `news` is notified, or until trio's clock reaches the time `until`. Cancellation: immediate."""

    async def flush(self) -> None:
        """Wait until all written bytes are sent.

        Raises:
            ClientGone: the client has hung up, or reads no more bytes. The connection was broken off.

        Cancellation: breaks the connection off.
        """

    def check_raw(self, raw: RawResponse) -> None:
        """Raise ValueError if these raw bytes are not possible in the protocol of the connection."""

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        """Send raw bytes in place of a response, then end the connection as `raw.end` specifies.

        No framing is added. If `raw.end` is `stall`, the connection stays open when this method has returned. If raw
        bytes are generated while they are sent, this method is called once for each part. `begins` is True for the
        first part, which contains the head, and `ends` is True for the last part.

        Raises:
            ClientGone: see `flush`.

        Cancellation: see `flush`.
        """

    async def abort(self) -> None:
        """Close the connection immediately, so that the client notices that its answer is incomplete."""
