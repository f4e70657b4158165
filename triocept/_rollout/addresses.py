"""Describe what a rollout gets from its endpoint: its URLs, and the properties of each API dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import urandom
from typing import Literal, Protocol, TypeAlias

from .._util.limits import EndpointLimits

DialectName: TypeAlias = Literal[
    "openai_chat", "openai_completions", "openai_responses", "anthropic_messages", "gemini", "ollama"
]
"""Names of triocept's own dialects. A dialect that another package adds has a different name."""
Reach: TypeAlias = Literal["local", "public"]
"""Location of an agent: on this machine (`local`), or elsewhere (`public`)."""


class SDK(Protocol):
    """The name of the Python package with a provider's official client, and the names of the client's classes."""

    @property
    def package(self) -> str: ...
    @property
    def sync(self) -> str:
        """Name of the class of the blocking client."""

    @property
    def asynchronous(self) -> str: ...


class DialectFacts(Protocol):
    """The properties of a dialect that the package `_rollout` needs. `_rollout` imports no dialect."""

    @property
    def name(self) -> str: ...
    @property
    def response_prefix(self) -> str:
        """Prefix of the ids of the dialect's responses, such as `chatcmpl-`."""

    @property
    def call_prefix(self) -> str:
        """Prefix of the ids of the dialect's tool calls, such as `call_`."""

    @property
    def environment(self) -> Callable[[str, str, str], Mapping[str, str]] | None:
        """Function `(base URL, key, model name) -> environment variables` that makes agents call this endpoint.

        None if environment variables do not configure any agent of this dialect.
        """

    @property
    def sdk(self) -> SDK | None:
        """The Python package of the provider's official client. None if triocept has no client for the dialect."""


class Addresses(Protocol):
    """The URLs of the rollouts of one endpoint, and the endpoint's limits and dialects."""

    @property
    def limits(self) -> EndpointLimits:
        """Resource limits of the endpoint."""

    @property
    def dialects(self) -> Mapping[str, DialectFacts]:
        """The dialects of the endpoint, by name."""

    @property
    def public_url(self) -> str:
        """Public URL of the endpoint, for agents on other machines. Raise TunnelError if there is no such URL."""

    def root_url(self, rollout_id: str, reach: Reach) -> str:
        """Return a rollout's URL, such as `http://127.0.0.1:40001/rollout/r_5eed`.

        Each dialect appends its own path to this URL.
        """

    def base_url(self, rollout_id: str, dialect: str, reach: Reach) -> str:
        """Return the `base_url` for the official SDK of `dialect`. Raise ValueError for an unknown dialect."""


def response_id(dialect: DialectFacts | None) -> str:
    return (dialect.response_prefix if dialect is not None else "") + urandom(12).hex()


def call_id(dialect: DialectFacts | None) -> str:
    """Return a new id for a tool call, made only of characters that every dialect allows.

    The agent sends this id back with the result of the tool.
    """
    return (dialect.call_prefix if dialect is not None else "call_") + urandom(12).hex()
