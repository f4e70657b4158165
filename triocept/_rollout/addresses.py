"""Where a rollout can be reached, and what is known of the dialects that are spoken there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import urandom
from typing import Literal, Protocol, TypeAlias

from .._util.limits import EndpointLimits

DialectName: TypeAlias = Literal[
    "openai_chat", "openai_completions", "openai_responses", "anthropic_messages", "gemini", "ollama"
]
"""The dialects of the package; one from outside has any other name."""
Reach: TypeAlias = Literal["local", "public"]
"""From where an agent calls: from this machine, or from elsewhere."""


class SDK(Protocol):
    """The package with the official client of a dialect's provider."""

    @property
    def package(self) -> str: ...
    @property
    def sync(self) -> str:
        """The name of its blocking client."""

    @property
    def asynchronous(self) -> str: ...


class DialectFacts(Protocol):
    """What the heart knows of a dialect: facts of its record, and none of its code."""

    @property
    def name(self) -> str: ...
    @property
    def response_prefix(self) -> str:
        """How the id of an answer begins."""

    @property
    def call_prefix(self) -> str:
        """How the id of a tool call begins."""

    @property
    def environment(self) -> Callable[[str, str, str], Mapping[str, str]] | None:
        """The variables in which agents look for a provider: of a base URL, a key and the name of a model."""

    @property
    def sdk(self) -> SDK | None:
        """The official client."""


class Addresses(Protocol):
    """Where a rollout can be reached; what an endpoint knows."""

    @property
    def limits(self) -> EndpointLimits:
        """What the endpoint puts up with."""

    @property
    def dialects(self) -> Mapping[str, DialectFacts]:
        """What it speaks, by name."""

    @property
    def public_url(self) -> str:
        """The URL of the endpoint for agents elsewhere; TunnelError where there is none."""

    def root_url(self, rollout_id: str, reach: Reach) -> str:
        """The URL of a rollout, without anything of a dialect: `http://127.0.0.1:40001/rollout/r_5eed`."""

    def base_url(self, rollout_id: str, dialect: str, reach: Reach) -> str:
        """The same as the dialect's own SDK takes it; ValueError for an unknown dialect."""


def response_id(dialect: DialectFacts | None) -> str:
    """An id for an answer in this dialect."""
    return (dialect.response_prefix if dialect is not None else "") + urandom(12).hex()


def call_id(dialect: DialectFacts | None) -> str:
    """An id for a tool call: of letters that every dialect allows, and recognisable when it comes back."""
    return (dialect.call_prefix if dialect is not None else "call_") + urandom(12).hex()
