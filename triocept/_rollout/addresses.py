"""Where a rollout can be reached."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from .._limits import EndpointLimits

__all__ = ["Addresses", "Reach"]

Reach: TypeAlias = Literal["local", "public"]
"""From where an agent calls: from this machine, or from elsewhere."""


class Addresses(Protocol):
    """Where a rollout can be reached; what an endpoint knows."""

    @property
    def limits(self) -> EndpointLimits:
        """What the endpoint puts up with."""

    @property
    def public_url(self) -> str:
        """The URL of the endpoint for agents elsewhere; TunnelError where there is none."""

    def root_url(self, rollout_id: str, reach: Reach) -> str:
        """The URL of a rollout, without anything of a dialect: `http://127.0.0.1:40001/rollout/r_5eed`."""

    def base_url(self, rollout_id: str, dialect: str, reach: Reach) -> str:
        """The same as the dialect's own SDK takes it; ValueError for an unknown dialect."""
