"""Records of host services: one record for each service call of a rollout's agent."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .branch import Branch
from .turn import OutcomeKind, TurnError

ServiceKind: TypeAlias = Literal["tool", "user", "stop", "state", "embeddings", "moderations"]


class ServiceCall(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A call of a host service, and its outcome."""

    id: str
    rollout: str
    """Id of the call's rollout."""
    run: str = ""
    """Run of the rollout's id, as in `Trace.run`."""
    number: int
    """Place in the order in which the rollout's service calls ended, from 0."""
    kind: ServiceKind
    name: str
    """Name of the tool, or of the model that should embed or moderate; for other kinds, the operation: `user`, `stop`,
    `get`, `put`."""
    arguments: Json = None
    """Arguments as received."""
    outcome: OutcomeKind
    """`answered`; `refused`: the arguments do not fit, or the service refused; `failed`: the service raised;
    `abandoned`: the caller disconnected, or the rollout ended."""
    result: Json = None
    """Result of the service; for embeddings, the number of vectors and their length."""
    error: TurnError | None = None
    """None exactly if the outcome is `answered`."""
    turns: int = 0
    """Number of turns in the trace when the call began: the model calls before it."""
    started_at: float
    """Start of the call: seconds since the epoch."""
    duration: float
    """Seconds from `started_at` to the end of the call."""
    branch: Branch | None = None
    """The point where a child rollout leaves its parent; None for a root rollout."""
