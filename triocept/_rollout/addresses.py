"""The URLs of a rollout, and the facts of the dialects that its endpoint serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import urandom
from typing import Literal, Protocol, TypeAlias

from .._util.limits import EndpointLimits

DialectName: TypeAlias = Literal[
    "openai_chat", "openai_completions", "openai_responses", "anthropic_messages", "gemini", "ollama"
]
"""Names of triocept's own dialects. A dialect of another package has any other name."""
Reach: TypeAlias = Literal["local", "public"]
"""Location of an agent: on this machine, or elsewhere."""


class SDK(Protocol):
    """The package with the official client of a dialect's provider."""

    @property
    def package(self) -> str: ...
    @property
    def sync(self) -> str:
        """Name of the blocking client."""

    @property
    def asynchronous(self) -> str: ...


class DialectFacts(Protocol):
    """The facts of a dialect that the state layer needs, without the dialect's code."""

    @property
    def name(self) -> str: ...
    @property
    def response_prefix(self) -> str:
        """Prefix of the id of an answer."""

    @property
    def call_prefix(self) -> str:
        """Prefix of the id of a tool call."""

    @property
    def environment(self) -> Callable[[str, str, str], Mapping[str, str]] | None:
        """Function that maps a base URL, a key and a model's name to the environment variables that agents read."""

    @property
    def sdk(self) -> SDK | None:
        """The official client."""


class Addresses(Protocol):
    """The addresses of a rollout, as its endpoint provides them."""

    @property
    def limits(self) -> EndpointLimits:
        """Resource limits of the endpoint."""

    @property
    def dialects(self) -> Mapping[str, DialectFacts]:
        """The dialects of the endpoint, by name."""

    @property
    def public_url(self) -> str:
        """URL of the endpoint for agents elsewhere. Raise TunnelError if there is no such URL."""

    def root_url(self, rollout_id: str, reach: Reach) -> str:
        """Return the URL of a rollout without a dialect's path: `http://127.0.0.1:40001/rollout/r_5eed`."""

    def base_url(self, rollout_id: str, dialect: str, reach: Reach) -> str:
        """Return the base URL that the dialect's own SDK needs. Raise ValueError for an unknown dialect."""


def response_id(dialect: DialectFacts | None) -> str:
    """Return an id for an answer in this dialect."""
    return (dialect.response_prefix if dialect is not None else "") + urandom(12).hex()


def call_id(dialect: DialectFacts | None) -> str:
    """Return an id for a tool call, made of letters that every dialect allows.

    The agent sends the id back with the tool's result.
    """
    return (dialect.call_prefix if dialect is not None else "call_") + urandom(12).hex()
