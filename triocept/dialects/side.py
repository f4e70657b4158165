"""Calls other than model calls: calls of agents to an endpoint, and calls of triocept to a provider.

A dialect without a list of models of its own uses OpenAI's `GET /v1/models`.
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
"""The paths of every endpoint: a dialect there would replace the route, or never be called."""
_ENDPOINT_PREFIXES = ("/rollout/", "/tools/")


def is_endpoint_path(path: str) -> bool:
    """Return True if the path belongs to the endpoint itself."""
    return path in ("/", "/api/hello", "/v1/models", *ENDPOINT_PATHS) or path.startswith(_ENDPOINT_PREFIXES)


@final
@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier call and its answer."""

    request: Request
    response: Response
    started_at: float
    """The start of the call in Unix seconds."""


@final
@dataclass(frozen=True, kw_only=True)
class SideCall:
    """A call of an agent to a `SideRoute`."""

    names: Mapping[str, str]
    """The values in the path, by the names in the `SideRoute`."""
    query: Mapping[str, str]
    document: Json
    """The decoded body; None for a method without a body."""
    model: str
    """The name of the rollout's model."""
    earlier: Callable[[str], Earlier]
    """Function that returns the call whose response has this id; it raises `Refusal` (404) if there is no such call.
    """


@final
@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """An answer made from the token count of a prompt, which the rollout's upstream counts, or triocept estimates."""

    request: Request
    render: Callable[[int], Json]


@final
@dataclass(frozen=True, kw_only=True)
class SideBody:
    """An answer that is not a JSON document."""

    body: bytes
    content_type: str


@final
@dataclass(frozen=True, kw_only=True)
class SideRoute:
    """A route beside the model calls, answered with a document."""

    paths: tuple[str, ...]
    """The paths after the base. `<name>` matches one segment, `<path:name>` the whole rest of the path."""
    method: str = "GET"
    answer: Callable[[SideCall], Json | TokenCount | Embeddings | Moderations | SideBody]
    """Function that returns the answer, or a value from which it is made; it raises `Refusal` or `DialectError`."""

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
    """Return the error in a side route's path pattern; None if the pattern is valid.

    Each name must occur once and match one segment, and the path must not be the endpoint's own.
    """
    names = _NAME.findall(path)
    if re.search(r"[<>\s]", _NAME.sub("", path)) or len(set(names)) < len(names):
        return "is no path of steps and of `<name>`s, each another"
    return "is the endpoint's own" if is_endpoint_path(path) else None


@final
@dataclass(frozen=True, kw_only=True)
class ProviderCall:
    """A call to a provider beside its model calls."""

    path: str
    """The path after a base URL, as the provider's own SDK takes it."""
    document: Json
    at_root: bool = False
    """True if the path starts at the provider's root, where servers have routes outside the dialect."""


CountCalls: TypeAlias = Generator[ProviderCall, Json, int | None]
"""A generator that counts the tokens of a prompt: each yielded call is answered with the provider's document, or None.
"""


def counted_by(path: str, document: Json, name: str) -> CountCalls:
    """Count tokens with one call: the count is the field `name` of its answer."""
    return counted((yield ProviderCall(path=path, document=document)), name)


def counted(document: Json, name: str) -> int | None:
    """Return the count in this field of a document; None if there is no count."""
    count = document.get(name) if isinstance(document, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def only(document: Mapping[str, Json], names: Container[str]) -> dict[str, Json]:
    """Return the document with these fields alone."""
    return {name: value for name, value in document.items() if name in names}


def render_models(names: Iterable[str], *, created: int | None = None) -> Json:
    """Return the list of models; `created` is in Unix seconds, and defaults to the current time."""
    created = int(time.time()) if created is None else created
    data = [{"id": name, "object": "model", "created": created, "owned_by": "triocept"} for name in names]
    return {"object": "list", "data": data}


_MOST_DIMENSIONS = 4096
"""Maximum dimensions in a request, larger than any provider's: text-embedding-3-large has 3072."""


@final
@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """An answer made of vectors: from the rollout's `embed`, or computed from the words."""

    model: str
    """The model's name in the request."""
    inputs: tuple[Embedded, ...]
    """The inputs, each a text, or the ids of its tokens."""
    dimensions: int | None = None
    """Required length of each vector; None means the vectors' own length."""
    render: Callable[[Sequence[Vector], int], Json]
    """Function of `(vectors, tokens)` that returns the document: one vector for each input, and the inputs' total
    tokens."""


@final
@dataclass(frozen=True, kw_only=True)
class Moderations:
    """An answer made of the verdicts of the rollout's `moderate`; without that function, no text is flagged."""

    model: str
    """The model's name in the request."""
    texts: tuple[str, ...]
    render: Callable[[Sequence[Verdict]], Json]
    """Function of `(verdicts)` that returns the document, given one verdict for each text."""


def read_dimensions(fields: Fields, name: str) -> int | None:
    """Return the vector length in this field; None if the field is missing.

    Raises:
        DialectError: a vector cannot have this length.
    """
    dimensions = fields.integer(name)
    if dimensions is not None and not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise DialectError(f"must be from 1 to {_MOST_DIMENSIONS:,}, not {dimensions}", path=fields.at(name))
    return dimensions
