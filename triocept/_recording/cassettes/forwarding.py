"""A real model for recording in programs that do not run in trio: opened for each call, in the call's own task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import final

from ..._canonical.content import Json
from ..._rollout.exchange import Exchange
from ..._rollout.handler import Handler
from ..._upstream import Upstream, open_upstream
from ..._upstream.address import parse_address
from ...dialects import Dialect
from ...dialects import dialect as dialect_named


@final
class ForwardTo:
    """A handler that opens an upstream for each call. Made by `forward_to` only."""

    def __init__(
        self, opens: Callable[[], AbstractAsyncContextManager[Upstream]], words: str, secrets: tuple[str, ...]
    ) -> None:
        self._opens = opens
        self._words = words
        self.secrets = secrets
        """Secrets that it sends, which must not be recorded."""

    def __repr__(self) -> str:
        return self._words

    async def __call__(self, exchange: Exchange) -> None:
        """Answer an exchange with the provider's answer; errors and cancellation are those of an `Upstream`."""
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
    """Return a handler that forwards each call to a real model, and needs no block of its own.

    In trio, `open_upstream` does this, too, and keeps its connections; see there for the arguments.

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
