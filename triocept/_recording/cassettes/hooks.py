"""Check and call the functions that a program passes to a cassette.

`normalise` and `normalise_text` change requests and texts before they are compared. `forward_to` is for recording in
programs that do not run in trio. The handler that it returns opens a connection to a real model for each call, in the
call's own task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from inspect import iscoroutinefunction
from typing import TypeAlias, final

from ..._canonical.content import Json
from ..._canonical.given_request import given_request
from ..._canonical.request import Request
from ..._rollout.exchange import Exchange
from ..._rollout.handler import Handler
from ..._upstream import Upstream, open_upstream
from ..._upstream.address import parse_address
from ..._util.checks import check_callable, described
from ...dialects import Dialect
from ...dialects import dialect as dialect_named
from ..volatile import in_json, mask_of, without_volatile

Normalise: TypeAlias = Callable[[Request], Request]
NormaliseText: TypeAlias = Callable[[str], str]

_NO_TEXT = frozenset({"call", "image", "audio", "file"})
"""Keys of a part's form whose values `normalise_text` does not get, because they are not texts: the name of a call, and
hashes of media."""


def check_hook(name: str, function: object, what: str) -> None:
    check_callable(name, function, what)
    if iscoroutinefunction(function):
        raise TypeError(f"{name} must be {what}, and must not be async")


def by_request(request: Request, function: Normalise) -> Request:
    given: object = function(request)
    return given_request("the request that `normalise` returned:", given)


def by_text(form: dict[str, Json], function: NormaliseText) -> dict[str, Json]:
    """Return a copy of a request's form in which `function` has changed all texts except names and hashes of media.

    Raises:
        TypeError: `function` returned something other than a text.
    """

    def change(text: str) -> str:
        given: object = function(text)
        if not isinstance(given, str):
            raise TypeError(f"normalise_text must return a str, not {described(given)}")
        return given

    def said(value: Json) -> Json:
        return change(value) if isinstance(value, str) else [part(each) for each in value]

    def part(members: dict[str, Json]) -> dict[str, Json]:
        return {
            name: value if name in _NO_TEXT else said(value) if name == "result" else in_json(value, change)
            for name, value in members.items()
        }

    changed = dict(form)
    changed["messages"] = [
        {name: value if name == "name" else said(value) for name, value in message.items()}
        for message in form["messages"]
    ]
    if "tools" in form:
        changed["tools"] = [
            {**tool, "description": change(tool["description"])} if "description" in tool else tool
            for tool in form["tools"]
        ]
    return changed


def normalize(*directories: str | os.PathLike[str]) -> Callable[[str], str]:
    """Return a function for the option `normalise_text` of `open_cassette`.

    The function replaces dates, times, durations and ids by `<date>`, `<id>`, …. Some agents put a git snapshot and a
    list of files into their prompts; the function replaces these by `<git>` and `<files>`.

    Args:
        directories: directories such as `tmp_path`. The function replaces the path of each by `<root>`, even if the
            path is spelled as a single file name (`-tmp-x` for `/tmp/x`).
    """
    mask = mask_of([{os.fspath(path).rstrip("/"): os.fspath(path).rstrip("/")} for path in directories])
    return lambda text: without_volatile(mask(text))


@final
class ForwardTo:
    """A handler that opens an upstream for each call. Only `forward_to` creates such handlers."""

    def __init__(
        self, opens: Callable[[], AbstractAsyncContextManager[Upstream]], words: str, secrets: tuple[str, ...]
    ) -> None:
        self._opens = opens
        self._words = words
        self.secrets = secrets
        """Secrets that the handler sends to the provider. The recorder removes them from recordings."""

    def __repr__(self) -> str:
        return self._words

    async def __call__(self, exchange: Exchange) -> None:
        async with self._opens() as upstream:
            await upstream(exchange)


def forward_to(
    base_url: str,
    *,
    dialect: str | Dialect,
    api_key: str | None = None,
    model: str | None = None,
    extra_body: Mapping[str, Json] | None = None,
    extra_headers: Mapping[str, str] | None = None,
    retries: int = 0,
    total_timeout: float | None = None,
) -> Handler:
    """Return a handler that forwards each call to a real model. It needs no `async with` block.

    In a trio program, use `open_upstream`, which keeps its connections. Both functions have the same arguments, which
    the documentation of `open_upstream` describes.

    Raises:
        ValueError: the URL or the dialect is invalid.
    """
    parse_address(base_url)
    spoken = dialect if isinstance(dialect, Dialect) else dialect_named(dialect)
    opens = partial(
        open_upstream,
        base_url,
        dialect=spoken,
        api_key=api_key,
        model=model,
        extra_body=extra_body,
        extra_headers=extra_headers,
        retries=retries,
        total_timeout=total_timeout,
    )
    secrets = tuple(filter(None, (api_key, *(extra_headers or {}).values())))
    return ForwardTo(opens, f"<forwards to {base_url}: {spoken.name}>", secrets)
