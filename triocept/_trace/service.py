"""What a rollout did for its agent beside the model: one record for each service call."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .branch import Branch
from .turn import OutcomeKind, TurnError

ServiceKind: TypeAlias = Literal["tool", "user", "stop", "state", "embeddings", "moderations"]


class ServiceCall(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One call of a host service, and what became of it."""

    id: str
    rollout: str
    """The id of its rollout."""
    run: str = ""
    """Which rollout of this id, as of `Trace.run`."""
    number: int
    """Its place in the order in which the rollout's service calls ended, from 0."""
    kind: ServiceKind
    name: str
    """Of the tool, or of the model that was to embed or moderate; for the other kinds, what was asked: `user`, `stop`,
    `get`, `put`."""
    arguments: Json = None
    """As they came."""
    outcome: OutcomeKind
    """`answered`; `refused`: the arguments do not fit, or the service said no; `failed`: it raised; `abandoned`: the
    caller hung up, or the rollout ended."""
    result: Json = None
    """What it gave; but of embeddings how many vectors there were, and of how many numbers each."""
    error: TurnError | None = None
    """None exactly if the outcome is `answered`."""
    turns: int = 0
    """How many turns the trace had when it began: so many model calls came before it."""
    started_at: float
    """When it began: seconds since the epoch."""
    duration: float
    """Seconds from there to its end."""
    branch: Branch | None = None
    """Of a child rollout: where it leaves its parent."""
