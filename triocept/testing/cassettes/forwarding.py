"""A real model for those who record in a program that does not run in trio: opened for each call, where the call is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from ..._canonical.content import Json
from ..._rollout.exchange import Exchange
from ..._rollout.handler import Handler
from ..._upstream import open_upstream
from ..._upstream.address import parse_address
from ...dialects import Dialect
from ...dialects import dialect as dialect_named

__all__ = ["ForwardTo", "forward_to"]


@final
class ForwardTo:
    """A handler that opens an upstream for each call. Made by `forward_to` only."""

    def __init__(
        self,
        base_url: str,
        dialect: Dialect,
        *,
        api_key: str | None,
        model: str | None,
        extra_body: Mapping[str, Json] | None,
        extra_headers: Mapping[str, str] | None,
        retries: int,
        total_timeout: float | None,
    ) -> None:
        self.url = base_url
        """Its base URL."""
        self._dialect = dialect
        self._api_key = api_key
        self._model = model
        self._extra_body, self._extra_headers = extra_body, extra_headers
        self._retries, self._total_timeout = retries, total_timeout

    def __repr__(self) -> str:
        return f"<forwards to {self.url}: {self._dialect.name}>"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What it sends that is nobody's business."""
        return tuple(filter(None, (self._api_key, *(self._extra_headers or {}).values())))

    async def __call__(self, exchange: Exchange) -> None:
        """Answer an exchange with what the provider answers; errors and cancellation are those of an `Upstream`."""
        async with open_upstream(
            self.url,
            dialect=self._dialect,
            api_key=self._api_key,
            model=self._model,
            extra_body=self._extra_body,
            extra_headers=self._extra_headers,
            retries=self._retries,
            total_timeout=self._total_timeout,
        ) as upstream:
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
    """A handler that forwards each call to a real model, and needs no block of its own.

    In trio, `open_upstream` does the same and keeps its connections. Its arguments are explained there.

    Raises:
        ValueError: no such URL, or dialect.
    """
    parse_address(base_url)
    return ForwardTo(
        base_url,
        dialect if isinstance(dialect, Dialect) else dialect_named(dialect),
        api_key=api_key,
        model=model,
        extra_body=extra_body,
        extra_headers=extra_headers,
        retries=retries,
        total_timeout=total_timeout,
    )
