"""Types of calls that are not model calls, such as token counts: calls of agents, and calls to providers.

A dialect that defines no list of models uses OpenAI's `GET /v1/models`.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from .._canonical.content import Json
from .._canonical.request import Request
from .._canonical.response import Response
from .._canonical.vectors import Embedded, Vector
from .._canonical.verdict import Verdict
from .._util.checks import check_callable, check_str, check_type, named
from ..errors import DialectError
from ._documents import Fields

_METHODS = ("GET", "POST", "DELETE")
_NAME = re.compile(r"<(?:[^<>]+:)?([A-Za-z_]\w*)>")
ENDPOINT_PATHS = ("/health", "/mcp", "/model", "/models", "/reset", "/state", "/stop", "/tools", "/user")
"""Paths that every endpoint itself serves. A dialect must not have such a path: its route would replace the endpoint's
route, or would never be called."""
_ENDPOINT_PREFIXES = ("/rollout/", "/tools/")


def is_endpoint_path(path: str) -> bool:
    """Return True if every endpoint itself serves the path, whatever the dialect."""
    return path in ("/", "/api/hello", "/v1/models", *ENDPOINT_PATHS) or path.startswith(_ENDPOINT_PREFIXES)


@final
@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier model call of the rollout, with its answer."""

    request: Request
    response: Response
    started_at: float
    """The time when the call began, in Unix seconds."""


@final
@dataclass(frozen=True, kw_only=True)
class SideCall:
    """A call of an agent to a `SideRoute`."""

    names: Mapping[str, str]
    """The values of the variables (`<name>`) in the path, by name."""
    query: Mapping[str, str]
    document: Json
    """The decoded body; None for a method without a body."""
    model: str
    """The name of the rollout's model."""
    earlier: Callable[[str], Earlier]
    """`earlier(response_id)` returns the earlier call whose answer has this id. The function raises `Refusal` (404) for
    an unknown id."""


@final
@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """An answer that contains the token count of a prompt.

    The rollout's upstream counts the tokens, or triocept estimates them.
    """

    request: Request
    render: Callable[[int], Json]


@final
@dataclass(frozen=True, kw_only=True)
class SideBody:
    """An answer whose body is not JSON, such as server-sent events."""

    body: bytes
    content_type: str


@final
@dataclass(frozen=True, kw_only=True)
class SideRoute:
    """A route of a dialect for calls other than model calls."""

    paths: tuple[str, ...]
    """The paths, relative to the base URL. `<name>` matches one segment, and `<path:name>` matches the rest of the
    path."""
    method: str = "GET"
    answer: Callable[[SideCall], Json | TokenCount | Embeddings | Moderations | SideBody]
    """`answer(call)` returns the JSON body of the answer, or an object from which the answer is rendered. The function
    may raise `Refusal` or `DialectError`."""

    def __post_init__(self) -> None:
        check_type("`paths` of a SideRoute", self.paths, tuple, "a tuple of str")
        for path in self.paths:
            check_str("each of the `paths` of a SideRoute", path)
        if not self.paths or not all(path.startswith("/") for path in self.paths):
            raise ValueError(
                f"`paths` of a SideRoute must be one or more paths that begin with `/`, not {self.paths!r}"
            )
        for path in self.paths:
            if (problem := path_problem(path)) is not None:
                raise ValueError(f"`paths` of a SideRoute: {path!r} {problem}")
        if self.method not in _METHODS:
            raise ValueError(f"`method` of a SideRoute must be {', '.join(_METHODS)}, not {self.method!r}")
        check_callable("`answer` of a SideRoute", self.answer, "a function of (call)")
        if inspect.iscoroutinefunction(self.answer):
            raise TypeError(f"`answer` of a SideRoute must not be async, but {named(self.answer)} is")


def path_problem(path: str) -> str | None:
    """Return the reason why a path pattern of a `SideRoute` is invalid; None if the pattern is valid.

    Each `<name>` may occur only once in the pattern. The pattern must not be a path that every endpoint itself serves.
    """
    names = _NAME.findall(path)
    if re.search(r"[<>\s]", _NAME.sub("", path)) or len(set(names)) < len(names):
        return "must consist of fixed steps and of placeholders `<name>` with different names"
    return "is a path that the endpoint itself serves" if is_endpoint_path(path) else None


@final
@dataclass(frozen=True, kw_only=True)
class ProviderCall:
    """A call from triocept to a provider that is not a model call, such as a call that counts tokens."""

    path: str
    """The path, relative to the base URL that the provider's own SDK expects."""
    document: Json
    at_root: bool = False
    """True if the path is relative to the server's root, not to the base URL. Some servers have further routes below
    their root."""


CountCalls: TypeAlias = Generator[ProviderCall, Json, int | None]
"""A generator that yields calls to a provider and returns the token count. The code that iterates sends the answer to
each call into the generator, or None if the call failed."""


def counted_by(path: str, document: Json, name: str) -> CountCalls:
    """Yield one call to the provider, and return the token count in the field `name` of its answer."""
    return counted((yield ProviderCall(path=path, document=document)), name)


def counted(document: Json, name: str) -> int | None:
    count = document.get(name) if isinstance(document, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def only(document: Mapping[str, Json], names: Container[str]) -> dict[str, Json]:
    return {name: value for name, value in document.items() if name in names}


def render_models(names: Iterable[str], *, created: int | None = None) -> Json:
    """Return the body that answers OpenAI's `GET /v1/models`; `created` is in Unix seconds (default: now)."""
    created = int(time.time()) if created is None else created
    data = [{"id": name, "object": "model", "created": created, "owned_by": "triocept"} for name in names]
    return {"object": "list", "data": data}


_MOST_DIMENSIONS = 4096
"""Maximum dimensions that a request may require. No provider has as many (text-embedding-3-large has 3072)."""


@final
@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """An answer that contains vectors. The rollout's `embed` returns them, or triocept computes them from the words."""

    model: str
    """The model's name in the request."""
    inputs: tuple[Embedded, ...]
    """The inputs; each is a text, or the token ids of a text."""
    dimensions: int | None = None
    """Required length of each vector; None means that any length is accepted."""
    render: Callable[[Sequence[Vector], int], Json]
    """`render(vectors, tokens)` returns the JSON body. `vectors` has one vector for each input, and `tokens` is the
    total of the tokens of all inputs."""


@final
@dataclass(frozen=True, kw_only=True)
class Moderations:
    """An answer that contains the verdicts of the rollout's `moderate`; without `moderate`, no text is flagged."""

    model: str
    """The model's name in the request."""
    texts: tuple[str, ...]
    render: Callable[[Sequence[Verdict]], Json]
    """`render(verdicts)` returns the JSON body. `verdicts` has one verdict for each text."""


def read_dimensions(fields: Fields, name: str) -> int | None:
    dimensions = fields.integer(name)
    if dimensions is not None and not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise DialectError(f"must be from 1 to {_MOST_DIMENSIONS:,}, not {dimensions}", path=fields.at(name))
    return dimensions
