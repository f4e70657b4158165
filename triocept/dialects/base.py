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
from ._records import check_client, check_headers, check_record, lowered
from .side import CountCalls, SideRoute, render_models
from .streams import StreamParser, StreamRenderer


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
    """Of `(document, target, memory)`: the request that an agent sent."""
    render_response: Callable[[Response, Request], Json]
    """Of `(response, request)`: the document that answers a request."""
    stream_renderer: Callable[[Request], StreamRenderer]
    """Of `(request)`: a renderer for one streamed response to it. The class itself will do."""
    render_error: Callable[[Failure], Json]
    """Of `(failure)`: the document that says it."""

    # As a client

    render_request: Callable[[Request], Json]
    """Of `(request)`: the document that asks a provider for it. It raises `DialectError` for what this dialect has
    no words for, and what must not be left out."""
    parse_response: Callable[[Json], Response]
    """Of `(document)`: the whole response that a provider sent; it raises `DialectError` with the path in the
    document, and `UpstreamError` where the document is an error."""
    stream_parser: Callable[[], StreamParser]
    """Of `()`: a parser for one streamed response. The class itself will do."""
    parse_error: Callable[[int, Json], Failure]
    """Of `(status, document)`: the failure that a provider's error document says, by its HTTP status; never
    raises, whatever the document."""

    # Where its calls go

    route: str
    """The path of its model calls behind the base, without `/v1`: e.g. `/chat/completions`."""
    base_path: str = ""
    """What its SDKs want at the end of a base URL: `/v1`, another path, or nothing where they add `/v1` themselves. At
    an endpoint it ends `rollout.base_url`, and calls may come with it or without; the base URL of a provider has it,
    and calls go to `route` behind that."""
    read_path: Callable[[str, str], Target | None] | None = None
    """Of `(path, query)`, the path without a rollout's prefix: what they say of a call; None: it is no model call
    of this dialect. Without this function, calls come to `route`, perhaps behind `/v1` or `base_path`, and say the
    rest in the document."""
    write_path: Callable[[Request], str] | None = None
    """Of `(request)`: where it goes at a provider, behind a base URL as the provider's own SDK takes it. Without
    this function: to `route`, and behind `/v1` where there is no `base_path`."""
    hosts: tuple[str, ...] = ()
    """The hosts of providers that speak it, and nothing else: for them the command line takes it without being
    told. Empty: it is always told."""

    # Streams

    stream_types: tuple[str, ...] = ("text/event-stream",)
    """The content types of a provider's streams, the usual one first: it is asked for, and what agents are told.
    Without it: that of server-sent events."""
    answer_type: Callable[[Request], str] | None = None
    """Of `(request)`: the content type of a streamed answer to it; without this function, the usual one."""
    streamed: Callable[[Response], Response] = _as_given
    """Of `(response)`, which was given whole: how it is told in a stream, so that it says what `render_response`
    says. Without this function: as it is."""

    # Documents

    transcript: str = "messages"
    """The field of a request that has its conversation: services (`…/user`, `…/stop`) are given documents with that
    alone."""
    required: Mapping[str, Json] = field(default_factory=dict)
    """Fields that a request must have besides, for such documents, with what is put in: else `parse_request`
    refuses them. Empty: a conversation does."""
    caps: tuple[tuple[str, ...], ...] = ()
    """The places of a document that say how many tokens an answer may have, each as the names that lead to it
    (`(("options", "num_predict"),)`), the one that is written first. Empty: `max_output_tokens` of an upstream has
    no effect, and a refusal of a number that is too large is told and not asked again."""
    logprobs: Json = None
    """What asks for log probabilities, as the value of a field `logprobs`, without alternatives; None: nothing
    does, and an upstream with `tokens=` does not ask."""
    tools: bool = True
    """Whether requests can offer tools."""
    tool_names: str = "[a-zA-Z0-9_-]{1,64}"
    """A pattern of the names that its providers allow tools: an agent's tool of another name has one that fits at
    the provider, and its own again in the answer."""
    response_prefix: str = ""
    """How the id of an answer begins where nobody gave it one: as peers of the dialect look for."""
    call_prefix: str = "call_"
    """The same of a tool call."""
    not_posted: frozenset[str] = frozenset()
    """Fields of an agent's document that no provider takes by POST. Empty: all go up."""
    as_it_came: Callable[[Mapping[str, Json], Request], bool] = _says_its_stream
    """Of `(document, request)`, the agent's and what it was read as: whether the document can go to a provider of
    this dialect as it is. Else `render_request` writes it anew, and what that does not write is lost. Without this
    function: where the field `stream` of the document says what `request.stream` does. So a dialect that asks for
    streams in another way must bring one, `lambda document, request: True` say: else its streams lose what it has
    not read."""
    continued: Callable[[Request, Request, Response], Request] = _no_earlier
    """Of `(request, earlier, answer)`: the request with the conversation that its `previous_response` names: that
    of an earlier one, and its answer. Without this function it is a 400; only a dialect that sets
    `previous_response` needs one."""
    referenced: Callable[[Request, Iterable[tuple[Request, Response]]], Request] | None = None
    """Of `(request, answers)`: the request with the things themselves in the place of what it merely names of
    earlier answers in this dialect, which are given with what they answered, the newest first. Without this
    function: as it is."""

    # Heads and errors

    key_headers: Callable[[str], dict[str, str]] = bearer
    """Of `(api_key)`: the headers that hold it, as its providers want it. It is called once where the record is
    made, for their names: a rollout's key is read there too, and never shown. Without this function:
    `Authorization: Bearer …`."""
    default_headers: Mapping[str, str] = field(default_factory=dict)
    """The headers that its clients always send, and providers want: said where an agent of this dialect does not,
    and by agents of others. The agent's own goes up. Kept in lower case."""
    request_id_header: str = "x-request-id"
    """Where the head of every answer has the id of its call; empty: nowhere."""
    lost_status: int = 400
    """The HTTP status of a call that goes on from a response which nobody knows (`previous_response`): by it some
    clients send the whole conversation again. Only a dialect with `continued` has such calls."""
    no_route: str | None = None
    """The code of the error that says that there is no such path; None: it is chosen by the status."""

    # What agents and programs ask beside

    is_client: Callable[[str, Mapping[str, str]], bool] | None = None
    """Of `(path, headers)`, names in lower case: whether one of its clients makes a call that is no model call, and
    is answered in this dialect. Without this function: where all of `default_headers` are there, if it has any, or
    the path begins with a `base_path` of its own."""
    render_models: Callable[[Sequence[str]], Json] = render_models
    """Of `(names)`: the list of these models. Without this function: as OpenAI answers `/v1/models`."""
    side_routes: tuple[SideRoute, ...] = ()
    """Further calls. Empty: 404, but for what every endpoint answers."""
    not_served: tuple[str, ...] = ()
    """Paths behind the base, with all below them, that its providers have and no endpoint answers: 501, which says what
    there is. `<name>` as in a SideRoute. Empty: whatever is not here is a 404."""
    count_tokens: Callable[[str, Json], CountCalls] | None = None
    """Of `(model, document)`: how a provider is asked for the number of tokens that it would be sent. Without this
    function it is estimated."""
    environment: Callable[[str, str, str], Mapping[str, str]] | None = None
    """Of `(base_url, api_key, model)`: the variables in which agents look for a provider. Without this function an
    agent is told in its command, or by `TRIOCEPT_URL` and the like alone."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable in which the command line looks for a provider's key."""
    sdk: SDK | None = None
    """The official client; None: `rollout.client` has none in this dialect."""

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
        return frozenset(self._around_key)

    @cached_property
    def _around_key(self) -> Mapping[str, tuple[str, str]]:
        """What stands before and behind a key, in each header that may hold one."""
        found = {}
        for name, text in lowered(self.key_headers("key")).items():
            before, _, behind = text.rpartition("key")
            found[name] = before.lower(), behind
        return found

    def key_in(self, headers: Mapping[str, str]) -> str | None:
        """The key that a call shows in a header of this dialect; None: it shows none there.

        Args:
            headers: of the call, names in lower case.
        """
        for name, (before, behind) in self._around_key.items():
            if shown := headers.get(name, "").strip():
                if shown[: len(before)].lower() == before and shown.endswith(behind):
                    return shown[len(before) : len(shown) - len(behind)].strip()
                return shown
        return None

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
