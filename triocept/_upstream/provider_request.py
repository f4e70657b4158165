"""One request to a provider, as it goes up. Knows no HTTP package: `transport` does, and is loaded with the first
upstream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..dialects._tool_names import ToolNames
from .tokens import Collector

__all__ = ["MAX_DOCUMENT", "ProviderRequest"]

MAX_DOCUMENT = 256 * 1024 * 1024
"""Bytes of a whole answer; what the endpoint takes as a request."""


@dataclass(frozen=True)
class ProviderRequest:
    """One request to a provider."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    stream: bool
    """Whether it asks for a stream."""
    collector: Collector | None = None
    """Takes the tokens out of the answer."""
    names: ToolNames | None = None
    """Gives the tools in the answer their own names back; None: the provider knows them by these."""
    model: str = ""
    """That it asks for."""
    prompt: Callable[[], int] = int
    """About how many tokens its prompt has."""

    @property
    def address(self) -> str:
        """Its URL without a query, which may hold a key."""
        return self.url.partition("?")[0]

    def __repr__(self) -> str:  # its headers hold a key
        return f"<ProviderRequest {self.address}: {len(self.body)} bytes>"
