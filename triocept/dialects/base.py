"""What a dialect is.

A dialect is one wire format, spoken both as a server (parse requests, render responses) and as a client
(render requests, parse responses). It is sans-IO: documents are decoded JSON, streams are bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, final

import msgspec

from .._canonical.content import Json
from .._canonical.events import Event
from .._canonical.memory import Memory
from .._canonical.request import Request
from .._canonical.response import Response
from ..errors import DialectError

__all__ = ["Dialect", "Failure", "StreamParser", "StreamRenderer", "Target"]


@final
class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an agent is not answered, in one form for all dialects."""

    status: int
    """The HTTP status, 400 to 599: what an SDK acts on."""
    message: str
    code: str | None = None
    """The dialect's own code or type (`insufficient_quota`, `overloaded_error`); None: chosen by status."""
    param: str | None = None
    """The path of the offending field, where one is to blame."""
    retry_after: float | None = None
    """Seconds."""
    should_retry: bool | None = None
    """What `x-should-retry` says: Claude Code and the SDKs of OpenAI and Anthropic obey it."""
    headers: dict[str, str] = {}
    """Further response headers (rate limits), names in lower case."""


@final
class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the path and the query of a call say of it, in a dialect that says something there."""

    model: str | None = None
    stream: bool | None = None
    array: bool = False
    """A stream comes as one JSON array, not as SSE."""


class StreamParser(ABC):
    """Reads one streamed response, byte by byte if need be: any split of the bytes gives the same events.

    Its memory is bounded by one wire event.
    """

    left_out: ClassVar[bytes] = b""
    """What ends a stream of this dialect, and what servers leave out all the same: the terminal fact stands before it.
    A relay gives it to the agent where `close` alone ended the answer."""

    @abstractmethod
    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes.

        Raises:
            DialectError: the wire breaks its grammar; the path is that inside the wire event.
            UpstreamError: the wire holds an error in place of a response.
        """

    def passes(self, data: bytes) -> bool:
        """Whether these are, beyond doubt, whole events that say no more than what an answer under way says next.

        A look tells, and a doubt is a no: a relay sends them on before it has them read. No event that begins a call,
        that says why or that an answer ends passes, and no error.
        """
        return False

    @property
    @abstractmethod
    def ending(self) -> bool:
        """Whether the wire has said why the answer ends.

        What follows adds no content: usage perhaps, and the terminal event. `ResponseEnd` may be still to come.
        """

    @abstractmethod
    def close(self) -> list[Event]:
        """The wire has ended: the last events, among them `ResponseEnd` if it was not given yet.

        Raises:
            UpstreamTruncated: the terminal event never came.
        """


class StreamRenderer(ABC):
    """Writes one streamed response: the bytes of its body, events framed."""

    @abstractmethod
    def render(self, event: Event) -> bytes:
        """What `event` adds to the body: perhaps nothing yet, where the wire needs more to be known first."""

    @abstractmethod
    def fail(self, failure: Failure) -> bytes:
        """The in-band error that ends a stream which cannot go on; behind it is the end of the connection."""

    @abstractmethod
    def keepalive(self, response_id: str = "") -> bytes:
        """A no-op of the protocol, for a silence: never an SSE comment, which some clients choke on.

        Args:
            response_id: the id that the answer will have, where the no-op is the first to tell it.
        """


class Dialect(ABC):
    """One wire format. Its instances hold no state."""

    name: ClassVar[str]
    """Its name everywhere: `openai_chat`, `anthropic_messages`, …"""
    route: ClassVar[str]
    """The path of its model calls behind the base, without `/v1`: e.g. `/chat/completions`."""
    base_path: ClassVar[str]
    """What its SDKs want at the end of a base URL: `/v1`, or nothing where they add it themselves."""
    request_id_header: ClassVar[str] = "x-request-id"
    """Where the head of every answer has the id of its call; empty: nowhere."""
    lost_status: ClassVar[int] = 400
    """The HTTP status of a call that goes on from a response which nobody knows."""

    def match(self, path: str, query: str) -> Target | None:
        """Read the path of a call, without a rollout's prefix, and its query.

        None: it is no model call of this dialect. Most dialects have one path, and say the rest in the document.
        """
        return Target() if path in (self.route, f"/v1{self.route}") else None

    def path(self, request: Request) -> str:
        """Where `request` goes at a provider, behind a base URL as the provider's own SDK takes it."""
        return self.route if self.base_path == "/v1" else f"/v1{self.route}"

    def stream_type(self, request: Request) -> str:
        """The content type of a streamed answer to `request`."""
        return "text/event-stream"

    @abstractmethod
    def parse_request(
        self,
        document: Json,
        target: Target = Target(),  # noqa: B008 - it is frozen
        memory: Memory | None = None,
    ) -> Request:
        """The request that an agent sent.

        Args:
            document: its body, decoded.
            target: what its path and query said.
            memory: of the calls before, so that what they said is not read again; None starts afresh.

        Raises:
            DialectError: with the path in the document.
        """

    def continued(self, request: Request, earlier: Request, answer: Response) -> Request:
        """`request` with the conversation that its `previous_response` names: that of `earlier`, and its answer.

        Only for a dialect whose requests can name an earlier response.
        """
        raise DialectError("a request cannot go on from an earlier response here")

    def referenced(self, request: Request, answers: Iterable[tuple[Request, Response]]) -> Request:
        """`request` with the things themselves in the place of what it merely names of earlier answers.

        Args:
            request: as `parse_request` read it.
            answers: what was asked and answered before in this dialect, the newest first.
        """
        return request

    @abstractmethod
    def render_request(self, request: Request) -> Json:
        """The document that asks a provider of this dialect for `request`.

        Raises:
            DialectError: it says something that this dialect has no words for, and that must not be left out.
        """

    @abstractmethod
    def parse_response(self, document: Json) -> Response:
        """The whole response that a provider sent.

        Raises:
            DialectError: with the path in the document.
        """

    @abstractmethod
    def render_response(self, response: Response, request: Request) -> Json:
        """The document that answers `request` with `response`."""

    @abstractmethod
    def stream_parser(self) -> StreamParser:
        """A parser for one streamed response."""

    @abstractmethod
    def stream_renderer(self, request: Request) -> StreamRenderer:
        """A renderer for one streamed response to `request`."""

    def streamed(self, response: Response) -> Response:
        """`response`, which was given whole, as it is told in a stream: it says what `render_response` says."""
        return response

    @abstractmethod
    def render_error(self, failure: Failure) -> Json:
        """The document that says `failure`."""

    @abstractmethod
    def parse_error(self, status: int, document: Json) -> Failure:
        """The failure that a provider's error document says; never raises, whatever the document."""
