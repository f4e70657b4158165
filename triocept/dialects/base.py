"""What a dialect is.

A dialect is one wire format, spoken both as a server (parse requests, render responses) and as a client
(render requests, parse responses). It is sans-IO: documents are decoded JSON, streams are bytes.

It is one record: whatever differs between dialects, and is asked for outside of their folders, is a field of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, final

import msgspec

from .._canonical.content import Json
from .._canonical.memory import Memory
from .._canonical.request import Request
from .._canonical.response import Response
from ..errors import DialectError
from ._failures import Failure
from ._models import render_models
from ._records import check_client, check_headers, check_record, lowered
from .side import CountCalls, SideRoute
from .streams import StreamParser, StreamRenderer

__all__ = [
    "HERE",
    "SDK",
    "Dialect",
    "ParseRequest",
    "Target",
    "bearer",
]


@final
class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the path and the query of a call say of it, in a dialect that says something there."""

    model: str | None = None
    stream: bool | None = None
    array: bool = False
    """A stream comes as one JSON array, not as SSE."""


HERE = Target()
"""Of a path that says nothing."""


class ParseRequest(Protocol):
    """Reads what an agent sent."""

    def __call__(self, document: Json, target: Target = ..., memory: Memory | None = None) -> Request:
        """The request in a body.

        Args:
            document: the body, decoded.
            target: what its path and query said.
            memory: of the calls before, so that what they said is not read again; None starts afresh.

        Raises:
            DialectError: with the path in the document.
        """


@final
@dataclass(frozen=True, kw_only=True)
class SDK:
    """The package with the official client of a dialect's provider."""

    package: str
    """Its name, and that of the extra of `triocept` that installs it."""
    sync: str
    """The name of its blocking client; it takes `base_url` and `api_key`."""
    asynchronous: str


def bearer(api_key: str) -> dict[str, str]:
    """The header that holds a key, as most providers want it."""
    return {"authorization": f"Bearer {api_key}"}


def _says_its_stream(document: Mapping[str, Json], request: Request) -> bool:
    return bool(document.get("stream")) == request.stream


def _no_earlier(request: Request, earlier: Request, answer: Response) -> Request:
    raise DialectError("a request cannot go on from an earlier response here")


def _nothing_referenced(request: Request, answers: Iterable[tuple[Request, Response]]) -> Request:
    return request


def _as_given(response: Response) -> Response:
    return response


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dialect:
    """One wire format: its functions, and the facts of it that others ask for. It holds no state."""

    name: str
    """Its name everywhere: `openai_chat`, `anthropic_messages`, …"""

    # As a server

    parse_request: ParseRequest
    """The request that an agent sent."""
    render_response: Callable[[Response, Request], Json]
    """The document that answers a request."""
    stream_renderer: Callable[[Request], StreamRenderer]
    """A renderer for one streamed response to a request."""
    render_error: Callable[[Failure], Json]
    """The document that says a failure."""

    # As a client

    render_request: Callable[[Request], Json]
    """The document that asks a provider for a request. It raises `DialectError` for what this dialect has no words for,
    and what must not be left out."""
    parse_response: Callable[[Json], Response]
    """The whole response that a provider sent; it raises `DialectError` with the path in the document, and
    `UpstreamError` where the document is an error."""
    stream_parser: Callable[[], StreamParser]
    """A parser for one streamed response."""
    parse_error: Callable[[int, Json], Failure]
    """The failure that a provider's error document says, by its HTTP status; never raises, whatever the document."""

    # Where its calls go

    route: str
    """The path of its model calls behind the base, without `/v1`: e.g. `/chat/completions`."""
    base_path: str = ""
    """What its SDKs want at the end of a base URL: `/v1`, another path, or nothing where they add `/v1` themselves. At
    an endpoint it ends `rollout.base_url`, and calls may come with it or without; the base URL of a provider has it,
    and calls go to `route` behind that."""
    read_path: Callable[[str, str], Target | None] | None = None
    """What a path, without a rollout's prefix, and its query say of a call; None: it is no model call of this dialect.
    Without this function, calls come to `route` and to `/v1` with `route`, and say the rest in the document."""
    write_path: Callable[[Request], str] | None = None
    """Where a request goes at a provider, behind a base URL as the provider's own SDK takes it. Without this function:
    to `/v1` with `route`."""
    hosts: tuple[str, ...] = ()
    """The hosts of providers that speak it, and nothing else."""

    # Streams

    stream_types: tuple[str, ...] = ("text/event-stream",)
    """The content types of a provider's streams, the usual one first."""
    answer_type: Callable[[Request], str] | None = None
    """The content type of a streamed answer to a request; without this function, the usual one."""
    streamed: Callable[[Response], Response] = _as_given
    """A response that was given whole, as it is told in a stream: it says what `render_response` says."""

    # Documents

    transcript: str = "messages"
    """The field of a request that has its conversation."""
    required: Mapping[str, Json] = field(default_factory=dict)
    """Fields that a request must have, for documents that say nothing but a conversation."""
    caps: tuple[tuple[str, ...], ...] = ()
    """The places of a document that say how many tokens an answer may have, the one that is written first."""
    logprobs: Json = None
    """What asks for log probabilities under that name, without alternatives; None: nothing does."""
    tools: bool = True
    """Whether requests can offer tools."""
    tool_names: str = "[a-zA-Z0-9_-]{1,64}"
    """A pattern of the names that its providers allow tools."""
    response_prefix: str = ""
    """How the id of an answer begins where nobody gave it one: as peers of the dialect look for."""
    call_prefix: str = "call_"
    """The same of a tool call."""
    not_posted: frozenset[str] = frozenset()
    """Fields of an agent's document that no provider takes by POST."""
    as_it_came: Callable[[Mapping[str, Json], Request], bool] = _says_its_stream
    """Whether an agent's document, which was read as this request, can go to a provider as it is."""
    continued: Callable[[Request, Request, Response], Request] = _no_earlier
    """A request with the conversation that its `previous_response` names: that of an earlier one, and its answer."""
    referenced: Callable[[Request, Iterable[tuple[Request, Response]]], Request] = _nothing_referenced
    """A request with the things themselves in the place of what it merely names of earlier answers in this dialect,
    which are given with what they answered, the newest first."""

    # Heads and errors

    key_headers: Callable[[str], dict[str, str]] = bearer
    """The headers that hold a key, as its providers want it."""
    default_headers: Mapping[str, str] = field(default_factory=dict)
    """The headers that its clients always send, and providers want: said where an agent does not."""
    request_id_header: str = "x-request-id"
    """Where the head of every answer has the id of its call; empty: nowhere."""
    lost_status: int = 400
    """The HTTP status of a call that goes on from a response which nobody knows."""
    no_route: str | None = None
    """The code of the error that says that there is no such path; None: it is chosen by the status."""

    # What agents and programs ask beside

    is_client: Callable[[str, Mapping[str, str]], bool] | None = None
    """Whether one of its clients makes a call that is no model call, by the path and the headers (names in lower case).
    Without this function: where all of `default_headers` are there, if it has any."""
    render_models: Callable[[Sequence[str]], Json] = render_models
    """The list of models of these names."""
    side_routes: tuple[SideRoute, ...] = ()
    """Further calls."""
    count_tokens: Callable[[str, Json], CountCalls] | None = None
    """How a provider is asked for the number of tokens that it would be sent: of the model's name, and the document."""
    environment: Callable[[str, str, str], Mapping[str, str]] | None = None
    """The variables in which agents look for a provider: of a base URL, a key and the name of a model."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable in which programs look for a key."""
    sdk: SDK | None = None
    """The official client."""

    def __post_init__(self) -> None:
        check_record(self)
        check_client(self, SDK)
        check_headers(self)
        for name, value in (
            ("default_headers", lowered(self.default_headers)),
            ("request_id_header", self.request_id_header.lower()),
        ):
            object.__setattr__(self, name, value)  # it is frozen from here on

    def __repr__(self) -> str:
        return f"<Dialect {self.name}>"

    @cached_property
    def key_names(self) -> frozenset[str]:
        """The names of the headers that may hold a key, in lower case."""
        return frozenset(lowered(self.key_headers("key")))

    def match(self, path: str, query: str) -> Target | None:
        """What the path of a call, without a rollout's prefix, and its query say; None: it is no model call of this
        dialect."""
        if self.read_path is not None:
            return self.read_path(path, query)
        return Target() if path in self.usual_paths else None

    @cached_property
    def usual_paths(self) -> frozenset[str]:
        """The paths of its model calls, without a rollout's prefix, where no function reads them."""
        return frozenset(f"{base}{self.route}" for base in ("", "/v1", self.base_path))

    def path(self, request: Request) -> str:
        """Where `request` goes at a provider, behind a base URL as the provider's own SDK takes it."""
        if self.write_path is not None:
            return self.write_path(request)
        return self.route if self.base_path else f"/v1{self.route}"

    def stream_type(self, request: Request) -> str:
        """The content type of a streamed answer to `request`."""
        return self.stream_types[0] if self.answer_type is None else self.answer_type(request)

    def speaks(self, path: str, headers: Mapping[str, str]) -> bool:
        """Whether one of its clients makes this call, which is no model call."""
        if self.base_path not in ("", "/v1") and path.startswith(f"{self.base_path}/"):
            return True
        if self.is_client is not None:
            return self.is_client(path, headers)
        return bool(self.default_headers) and all(name in headers for name in self.default_headers)
