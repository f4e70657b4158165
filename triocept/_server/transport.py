"""What a connection is to a model call, whatever protocol it speaks: the contract of all four transports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
import trio

from .._rollout.log import Alarm, ClientGone
from .waiting import Share

__all__ = ["GONE", "BodySource", "BodyTooLarge", "Head", "Reply", "Transport"]

GONE = (ClientGone, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""How a connection ends whose client has left, or that was closed here."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of an HTTP request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Names in lower case; of several of one name, the last."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A response's head, and what of its body is there already."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""
    last: bool = True
    """Whether that is all of the body."""


class BodyTooLarge(Exception):
    """The body is over the cap; what is over it was not read."""


class BodySource(Protocol):
    """Whoever sends a body."""

    async def receive_body(self, cap: int, share: Share) -> bytes:
        """As `Transport.receive_body`."""


class Transport(Protocol):
    """What a connection gives to `intake`."""

    def admit(self) -> None:
        """The client has shown a key that opens something here."""

    async def receive_body(self, cap: int, share: Share) -> bytes:
        """The whole body, weighed by `share` while it waits; `BodyTooLarge` as soon as it is known to be over `cap`
        bytes, `ClientGone` if it is cut."""

    @property
    def alarm(self) -> Alarm | None:
        """The connection's timer, if it has one."""

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Call this when the client hangs up before the end of the answer is on its way."""

    def interrupt(self) -> None:
        """End a `send` that waits: the connection is broken off, and the client is gone."""

    async def send(self, reply: Reply) -> None:
        """Send a head and the first (perhaps only) piece of a body."""

    async def send_more(self, data: bytes, *, last: bool) -> None:
        """Send more of the body."""

    def reply_now(self, reply: Reply) -> bool:
        """Send a whole response without waiting. Whether all of it is out: what is not goes with `send`, which must
        be called with the same reply then."""

    def can_send_now(self) -> bool:
        """Whether `send_now` may be called: all that was sent is out, and this transport can send without waiting."""

    def send_now(self, data: bytes, *, last: bool) -> bool:
        """Send more of the body without waiting. Whether all of it is out: what is not goes with the next
        `send_more`."""

    async def abort(self) -> None:
        """Break the connection off: the client must see that something is missing."""
