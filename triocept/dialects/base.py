"""The class `Dialect`: one record contains everything that defines a dialect.

A dialect is one wire format, implemented both as a server (parse requests, render responses) and as a client (render
requests, parse responses). A dialect is sans-IO: documents are decoded JSON, streams are bytes.

Every difference between dialects on which other packages depend is a field of this record.
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
    """The values that are read from the path and the query of a model call, such as the name of the model."""

    model: str | None = None
    stream: bool | None = None
    array: bool = False
    """True if a streamed answer must be one JSON array, and not server-sent events."""


HERE = Target()
"""The `Target` of a call whose path and query contain no facts about the request."""


class ParseRequest(Protocol):
    """The type of `Dialect.parse_request`, a function that parses the JSON body of an agent's model call."""

    def __call__(self, document: Json, target: Target = ..., memory: Memory | None = None) -> Request:
        """Convert the JSON body of an agent's model call into a `Request`.

        Args:
            document: the body, decoded. The parser must not change the document.
            target: the facts that were read from the path and query of the call.
            memory: parsed parts of earlier calls; parts that are unchanged in this call are not parsed again. None
                means that there were no earlier calls.

        Raises:
            DialectError: the document is invalid. The error names the path of the invalid field.
        """


@final
@dataclass(frozen=True, kw_only=True)
class SDK:
    """The Python package with the official client of a dialect's provider."""

    package: str
    """The name of the package. `triocept` has an extra of the same name that installs the package."""
    sync: str
    """The name of the package's blocking client class, which accepts `base_url` and `api_key`."""
    asynchronous: str


def bearer(api_key: str) -> dict[str, str]:
    """Return the header `Authorization: Bearer <api_key>`, which most providers expect."""
    return {"authorization": f"Bearer {api_key}"}


def _no_earlier(request: Request, earlier: Request, answer: Response) -> Request:
    raise DialectError("this dialect cannot continue an earlier response: send the whole conversation")


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dialect:
    """A wire format, as a record without state: functions that convert from and to the format, and facts about it."""

    def __init_subclass__(cls) -> None:
        raise TypeError(
            f"class {cls.__name__}: Dialect is not a base class (in 0.2.0 it was): create the dialect with "
            "Dialect(name=…, parse_request=…, …)"
        )

    name: str
    """The dialect's name in arguments, traces and the command line: `openai_chat`, `anthropic_messages`, …"""

    # Used by the server

    parse_request: ParseRequest
    """`parse_request(document, target, memory)` returns the request that an agent sent."""
    render_response: Callable[[Response, Request], Json]
    """`render_response(response, request)` returns the JSON body that answers the request, not streamed."""
    stream_renderer: Callable[[Request], StreamRenderer]
    """`stream_renderer(request)` returns a renderer for one streamed answer. This function may be a renderer class."""
    render_error: Callable[[Failure], Json]
    """`render_error(failure)` returns the JSON body of an error."""

    # Used by an upstream

    render_request: Callable[[Request], Json]
    """`render_request(request)` returns the JSON body to send to a provider. The function raises `DialectError` for
    content that this dialect cannot express, and that must not be left out."""
    parse_response: Callable[[Json], Response]
    """`parse_response(document)` returns a provider's answer, parsed from a JSON body that was not streamed. If the
    document is invalid, the function raises `DialectError` with the path of the invalid field. The function raises
    `UpstreamError` if the document is an error, whatever its HTTP status, or if the stop reason is unknown or means a
    failure."""
    stream_parser: Callable[[], StreamParser]
    """`stream_parser()` returns a parser for one streamed answer. This function may be a parser class."""
    parse_error: Callable[[int, Json], Failure]
    """`parse_error(status, document)` returns the failure in a provider's error document, which came with this HTTP
    status. The function must not raise, whatever the document contains."""

    # Paths of its calls

    route: str
    """The path of model calls, relative to the base URL and without `/v1`; for example `/chat/completions`."""
    base_path: str = ""
    """The last part of the base URL that the provider's SDKs expect: `/v1`, another path, or empty if the SDKs add
    `/v1` themselves. At an endpoint, `rollout.base_url` ends with this path; calls without this path are also accepted.
    A provider's base URL ends with this path, too, and `route` is appended to the URL."""
    read_path: Callable[[str, str], Target | None] | None = None
    """`read_path(path, query)` returns the facts in a call's path and query, or None if the call is no model call of
    this dialect. The path comes without the rollout's prefix. Default: model calls have the path `route`, with or
    without `/v1` or `base_path` before it, and the document contains all facts."""
    write_path: Callable[[Request], str] | None = None
    """`write_path(request)` returns the path to which the request is sent. The path is appended to the base URL that
    the provider's own SDK expects. Default: `/v1` and `route` if `base_path` is empty, otherwise `route`."""
    hosts: tuple[str, ...] = ()
    """The hosts of providers that serve only this dialect. For a URL at one of these hosts, the command line selects
    the dialect. If empty, the user must name the dialect."""

    # Streams

    stream_types: tuple[str, ...] = ("text/event-stream",)
    """The content types that a provider's streams may have, the usual type first. The first type is sent in `Accept`,
    and is the content type of streams to agents. Default: the type of server-sent events."""
    answer_type: Callable[[Request], str] | None = None
    """`answer_type(request)` returns the content type of a streamed answer to the request. Default: the first of
    `stream_types`."""
    streamed: Callable[[Response], Response] = lambda response: response
    """`streamed(response)` is called if the request is streamed and the program answers with a complete response. The
    function returns the response to stream, with the content that `render_response` would write. Default: the response
    itself."""

    # Documents

    transcript: str = "messages"
    """The name of the request field that contains the conversation. The documents that agents send to services
    (`…/user`, `…/stop`) have only this field."""
    required: Mapping[str, Json] = field(default_factory=dict)
    """Further fields that `parse_request` requires, each with a value. The values are added to documents that have only
    the field `transcript`. If empty, `parse_request` requires no further field."""
    caps: tuple[tuple[str, ...], ...] = ()
    """The places in a document where the output token limit is read. A new limit is written to the first place. Each
    place is a tuple of the field names that lead to it, as in `(("options", "num_predict"),)`. If empty,
    `max_output_tokens` of an upstream has no effect. In this case, an error of a provider about a too large limit is
    passed on without a retry."""
    logprobs: Json = None
    """The value of the request field `logprobs` that requests log probabilities without alternatives. If None, the
    dialect has no such field, and an upstream with `tokens=` does not request log probabilities."""
    tools: bool = True
    """True if a request in this dialect can offer tools."""
    tool_names: str = "[a-zA-Z0-9_-]{1,64}"
    """A regular expression for the tool names that the dialect's providers allow. A tool with any other name gets an
    allowed name for the provider, and its own name again in the answer."""
    response_prefix: str = ""
    """The prefix of generated response ids, as the provider writes it, such as `chatcmpl-`."""
    call_prefix: str = "call_"
    """The prefix of ids that are generated for tool calls without an id."""
    not_posted: frozenset[str] = frozenset()
    """Fields of an agent's document that are not sent to providers, because providers do not accept them by POST."""
    as_it_came: Callable[[Mapping[str, Json], Request], bool] = lambda document, request: (
        bool(document.get("stream")) == request.stream
    )
    """`as_it_came(document, request)` returns True if the agent's document can be sent unchanged to a provider of this
    dialect; `request` was parsed from the document. If the function returns False, `render_request` writes a new
    document, and fields that `render_request` does not write are lost. Default: True if the document's field `stream`
    equals `request.stream`. A dialect that requests streams in another way must set this function, for example to
    `lambda document, request: True`. Without such a function, streamed requests of this dialect lose their unparsed
    fields."""
    continued: Callable[[Request, Request, Response], Request] = _no_earlier
    """`continued(request, earlier, answer)` is called if `request.previous_response` names an earlier response. The
    function returns the request with the earlier conversation: the messages of the request `earlier`, and its `answer`.
    Default: the call fails with 400. Only a dialect that sets `previous_response` needs this function."""
    referenced: Callable[[Request, Iterable[tuple[Request, Response]]], Request] | None = None
    """`referenced(request, answers)` replaces references to earlier answers by the content of those answers, and
    returns the request. `answers` contains pairs of an earlier request in this dialect and its answer, the newest pair
    first. Default: the request itself."""

    # Headers and errors

    key_headers: Callable[[str], dict[str, str]] = bearer
    """`key_headers(api_key)` returns the headers with the key, in the form that the providers expect. triocept also
    calls the function with a sample key, to find out the names and the form of the headers. The character after the key
    must not be a letter, a digit, `-` or `_`, because this character would be read as a part of the key. Endpoints read
    a rollout's key from these headers on all routes, and never display these headers. Default: `Authorization: Bearer
    …`."""
    default_headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that the dialect's clients always send and its providers require, with names in lower case. These headers
    are added to each call to a provider that lacks them. A header that the agent itself sent takes precedence."""
    request_id_header: str = "x-request-id"
    """The name of the response header that contains the id of the call; every answer has this header. Empty means no
    header."""
    lost_status: int = 400
    """The HTTP status for a call whose `previous_response` is unknown. Some clients send the whole conversation again
    only after the status that their provider uses. Only a dialect with `continued` has such calls."""
    no_route: str | None = None
    """The error code for a call to an unknown path. If None, the code for the status 404 is used."""

    # Calls other than model calls

    is_client: Callable[[str, Mapping[str, str]], bool] | None = None
    """`is_client(path, headers)`, with header names in lower case, is called for a call that is not a model call. The
    function returns True if a client of this dialect sent the call. Then the call is answered in this dialect. Default:
    True if all headers in `default_headers` (and at least one) are present, or if the path begins with `base_path` and
    `base_path` is not `/v1`."""
    render_models: Callable[[Sequence[str]], Json] = render_models
    """`render_models(names)` returns the JSON body that lists these models. Default: OpenAI's `/v1/models`."""
    side_routes: tuple[SideRoute, ...] = ()
    """Further routes of the dialect. A call to any other path fails with 404, unless every endpoint has this route."""
    not_served: tuple[str, ...] = ()
    """Paths, relative to the base URL, that the dialect's providers serve and endpoints do not serve. Calls to these
    paths, and to all paths below them, fail with 501, and the error lists the existing routes. `<name>` matches one
    segment, as in a SideRoute. If empty, every unknown path fails with 404."""
    count_tokens: Callable[[str, Json], CountCalls] | None = None
    """`count_tokens(model, document)` is a generator function. The generator yields the calls by which a provider
    counts the tokens of the document. Default: the count is estimated."""
    environment: Callable[[str, str, str], Mapping[str, str]] | None = None
    """`environment(base_url, api_key, model)` returns the environment variables from which agents read the provider to
    use. Default: no variables, so an agent must read the URL from its command line or from `TRIOCEPT_URL` and
    similar variables."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable from which the command line reads the provider's key."""
    sdk: SDK | None = None
    """The official client. If None, `rollout.client` has no client for this dialect."""

    def __post_init__(self) -> None:
        check_record(self)
        check_client(self, SDK)
        check_headers(self)
        for name, value in (
            ("default_headers", lowered(self.default_headers)),
            ("request_id_header", self.request_id_header.lower()),
        ):
            object.__setattr__(self, name, value)  # the dataclass is frozen

    def __repr__(self) -> str:
        return f"<Dialect {self.name}>"

    @cached_property
    def key_names(self) -> frozenset[str]:
        """The names, in lower case, of the headers that can contain an API key."""
        return frozenset(self._around_key)

    @cached_property
    def _around_key(self) -> Mapping[str, tuple[str, str]]:
        """The text before and the text after the API key, for each header that can contain a key."""
        found = {}
        for name, text in lowered(self.key_headers("key")).items():
            before, _, behind = text.rpartition("key")
            found[name] = before.lower(), behind
        return found

    def key_in(self, headers: Mapping[str, str]) -> str | None:
        """Return the API key in the headers of a call; None if no header of this dialect contains a key.

        Args:
            headers: the headers of the call, names in lower case.
        """
        for name, (before, behind) in self._around_key.items():
            if shown := headers.get(name, "").strip():
                if shown[: len(before)].lower() == before and shown.endswith(behind):
                    return shown[len(before) : len(shown) - len(behind)].strip()
                return shown
        return None

    def match(self, path: str, query: str) -> Target | None:
        """Return the facts in a call's path and query; None if the call is no model call of this dialect.

        Args:
            path: the path without a rollout's prefix.
            query: the query string.
        """
        if self.read_path is not None:
            return self.read_path(path, query)
        return Target() if path in self.usual_paths else None

    @cached_property
    def usual_paths(self) -> frozenset[str]:
        """The paths of model calls, without the rollout's prefix; valid only if `read_path` is None."""
        return frozenset(f"{base}{self.route}" for base in ("", "/v1", self.base_path))

    def path(self, request: Request) -> str:
        """Return the path to which `request` is sent.

        The path is relative to the base URL that the provider's SDK expects.
        """
        if self.write_path is not None:
            return self.write_path(request)
        return self.route if self.base_path else f"/v1{self.route}"

    def stream_type(self, request: Request) -> str:
        """Return the content type of a streamed answer to `request`."""
        return self.stream_types[0] if self.answer_type is None else self.answer_type(request)

    def speaks(self, path: str, headers: Mapping[str, str]) -> bool:
        """Return True if a call (which is not a model call) was sent by a client of this dialect."""
        if self.base_path not in ("", "/v1") and path.startswith(f"{self.base_path}/"):
            return True
        if self.is_client is not None:
            return self.is_client(path, headers)
        return bool(self.default_headers) and all(name in headers for name in self.default_headers)
