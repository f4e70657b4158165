"""What is asked beside the model calls: by agents of a server, and of a provider.

The list of models is OpenAI's `GET /v1/models`, in a dialect that has none of its own.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Container, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from .._canonical.content import Json
from .._canonical.request import Request
from .._canonical.response import Response
from .._util.checks import check_callable, check_str, check_type, named
from ._beside import Embeddings, Moderations

_METHODS = ("GET", "POST", "DELETE")
_NAME = re.compile(r"<(?:[^<>]+:)?([A-Za-z_]\w*)>")
OURS = ("/health", "/mcp", "/model", "/models", "/reset", "/state", "/stop", "/tools", "/user")
"""What every endpoint has: a dialect there would be in its place, or never be called."""
_UNDER_OURS = ("/rollout/", "/tools/")


def is_ours(path: str) -> bool:
    """Whether a path is the endpoint's own."""
    return path in ("/", "/api/hello", "/v1/models", *OURS) or path.startswith(_UNDER_OURS)


@final
@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A call that was answered before."""

    request: Request
    response: Response
    started_at: float
    """Unix seconds."""


@final
@dataclass(frozen=True, kw_only=True)
class SideCall:
    """What an agent asks beside its model calls."""

    names: Mapping[str, str]
    """What stands in the path where its `SideRoute` has names."""
    query: Mapping[str, str]
    document: Json
    """The body; None where the method has none."""
    model: str
    """The name that the rollout gives its model."""
    earlier: Callable[[str], Earlier]
    """The call that was answered with a response of this id; it raises `Refusal` (404) where there is none."""


@final
@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """An answer that is made of how many tokens a prompt has: the rollout's upstream is asked, or it is estimated."""

    request: Request
    render: Callable[[int], Json]


@final
@dataclass(frozen=True, kw_only=True)
class SideBody:
    """An answer that is no JSON document."""

    body: bytes
    content_type: str


@final
@dataclass(frozen=True, kw_only=True)
class SideRoute:
    """A call that agents make beside their model calls, and that is answered with a document."""

    paths: tuple[str, ...]
    """Behind the base. `<name>` is one step of the path, `<path:name>` all that is left of it."""
    method: str = "GET"
    answer: Callable[[SideCall], Json | TokenCount | Embeddings | Moderations | SideBody]
    """Its answer, or what it is made of; it raises `Refusal` or `DialectError`."""

    def __post_init__(self) -> None:
        check_type("`paths` of a SideRoute", self.paths, tuple, "a tuple of str")
        for path in self.paths:
            check_str("each of the `paths` of a SideRoute", path)
        if not self.paths or not all(path.startswith("/") for path in self.paths):
            raise ValueError(f"`paths` of a SideRoute is one or more that begin with `/`, not {self.paths!r}")
        for path in self.paths:
            if (problem := path_problem(path)) is not None:
                raise ValueError(f"`paths` of a SideRoute: {path!r} {problem}")
        if self.method not in _METHODS:
            raise ValueError(f"`method` of a SideRoute is {', '.join(_METHODS)}, not {self.method!r}")
        check_callable("`answer` of a SideRoute", self.answer, "a function of (call)")
        if inspect.iscoroutinefunction(self.answer):
            raise TypeError(f"`answer` of a SideRoute is not async, and {named(self.answer)} is")


def path_problem(path: str) -> str | None:
    """Why a path is no pattern of one beside model calls, whose names stand for a step each, and are its own; None: it
    is one."""
    names = _NAME.findall(path)
    if re.search(r"[<>\s]", _NAME.sub("", path)) or len(set(names)) < len(names):
        return "is no path of steps and of `<name>`s, each another"
    return "is the endpoint's own" if is_ours(path) else None


@final
@dataclass(frozen=True, kw_only=True)
class ProviderCall:
    """A call that is made at a provider beside its model calls."""

    path: str
    """Behind a base URL as the provider's own SDK takes it."""
    document: Json
    at_root: bool = False
    """The path is behind the provider's root, where servers have what is not of the dialect."""


CountCalls: TypeAlias = Generator[ProviderCall, Json, int | None]
"""How a prompt is counted: each call that is given is answered with what the provider said, or with None."""


def counted_by(path: str, document: Json, name: str) -> CountCalls:
    """A count that is the field `name` of what one call is answered with."""
    return counted((yield ProviderCall(path=path, document=document)), name)


def counted(document: Json, name: str) -> int | None:
    """The count in this field of a document; None where there is none."""
    count = document.get(name) if isinstance(document, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def only(document: Mapping[str, Json], names: Container[str]) -> dict[str, Json]:
    """The document without any fields but these."""
    return {name: value for name, value in document.items() if name in names}


def render_models(names: Iterable[str], *, created: int | None = None) -> Json:
    """The list of models; `created` is in Unix seconds, now where it is None."""
    created = int(time.time()) if created is None else created
    data = [{"id": name, "object": "model", "created": created, "owned_by": "triocept"} for name in names]
    return {"object": "list", "data": data}
