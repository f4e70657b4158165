"""What a connection is to a model call, whatever protocol it speaks: the contract of both transports of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from .._rollout.answer import ClientGone, Condition
from .._trace.raw import RawResponse
from .admission import Share

if TYPE_CHECKING:
    from .._rollout.rollout_state import RolloutState

STATE_KEY = "triocept.connection"
"""Where an ASGI scope's `state` holds what it came on, an `ASGIConnection`."""

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
    """A whole response."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class BodyTooLarge(Exception):
    """The body is over the cap; what is over it was not read."""


class BodySource(Protocol):
    """Whoever sends a body."""

    async def receive_body(self, cap: int, share: Share) -> bytes:
        """As `Transport.receive_body`."""


class Transport(Protocol):
    """A connection, as one model call sees it. What is written is sent at once as far as that can be, and kept else."""

    async def receive_body(self, cap: int, share: Share) -> bytes:
        """The whole body, of a client that has shown a key: a stranger's is read by nobody. Weighed by `share` while it
        waits; `Refusal` as of `Share`; `BodyTooLarge` as soon as it is known to be over `cap` bytes, `ClientGone` if it
        is cut."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call this when the client hangs up before the end of the answer is on its way."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin the response: its head goes out with the first piece of the body."""

    def write(self, data: bytes, *, last: bool = False) -> bool:
        """A piece of the body. Whether all is sent: nothing more is to be written else, before `flush`."""

    def respond(self, reply: Reply) -> bool:
        """A whole response: `start`, and all of the body."""

    @property
    def full(self) -> bool:
        """Whether something is still to be sent."""

    async def wait(self, news: Condition, until: float) -> None:
        """Until there is news, or it is so late by trio's clock.

        Cancellation: immediate.
        """

    async def flush(self) -> None:
        """Send what is still to be sent.

        Raises:
            ClientGone: the client has hung up, or takes nothing any more: the connection was broken off.

        Cancellation: breaks the connection off.
        """

    def check_raw(self, raw: RawResponse) -> None:
        """See whether it can send raw bytes; ValueError, if its protocol has no word for them."""

    async def send_raw(self, raw: RawResponse, *, begins: bool = True, ends: bool = True) -> None:
        """In the place of a response: raw bytes that are not framed here, and their end. A stall begins, and goes on
        when the call is over. Of those that are made on their way `raw` is a part: with the head where it `begins`,
        and with the end where it `ends`.

        Raises:
            ClientGone: as `flush`.

        Cancellation: as `flush`.
        """

    async def abort(self) -> None:
        """Break the connection off: the client must see that something is missing."""


class ASGIConnection(Protocol):
    """What a request and its response by ASGI ask of what they came on: its connection."""

    gone: bool
    """Whether nothing can be sent any more."""

    async def begin_request(self, rollout: RolloutState | None) -> None:
        """Admit the connection, or let it wait for its turn (see `BaseConnection`)."""

    async def go_on(self) -> None:
        """Ask for the body, if the client waits to be asked (`Expect: 100-continue`)."""

    def note_taken(self, count: int) -> None:
        """The application has so many bytes of the body now."""

    def cork(self) -> None:
        """Hold back what is sent, until `uncork`."""

    async def uncork(self) -> None:
        """Send what was held back, in one piece."""

    def check_raw(self, raw: RawResponse) -> None:
        """As of `Transport`."""

    async def send_raw(self, raw: RawResponse, *, begins: bool, ends: bool) -> None:
        """As of `Transport`; a stall is left as it is."""

    async def wait_ending(self) -> None:
        """Until the server stops.

        Cancellation: immediate.
        """

    async def abort(self) -> None:
        """End it: the client must see that something is missing."""
