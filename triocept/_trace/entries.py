"""Records other than turns and service calls: starts of rollouts and agents, calls passed to handlers, scores, gaps.

All of these records are frozen. A recorder with the method `record_entry` receives them (see `recorder`), except gaps,
which are found only when a file is read.
"""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .turn import Branch

Ending: TypeAlias = Literal["body", "cancelled", "raised"]
"""The way in which a rollout's body ended: it returned (`body`), was cancelled from outside (`cancelled`), or raised an
exception (`raised`)."""


class Opening(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Record of the start of a rollout."""

    rollout: str
    """Id of the rollout."""
    run: str = ""
    """Id of this run, which distinguishes rollouts with equal ids (see `Trace.run`)."""
    at: float
    """Time when the rollout started, in seconds since the epoch."""
    versions: dict[str, str] = {}
    """Versions of triocept and Python, by the names `triocept` and `python`."""
    metadata: dict[str, Json] = {}
    """Value of `open_rollout(metadata=…)`."""
    branch: Branch | None = None
    """For a child rollout: the point in the parent's trace where the child began. For other rollouts: None."""


class AgentStart(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Record of an agent's process that is about to start.

    The name and version that the agent sends are in the turns of its calls: `turn.agent`.
    """

    rollout: str
    """Id of the agent's rollout."""
    run: str = ""
    """Id of this run, which distinguishes rollouts with equal ids (see `Trace.run`)."""
    argv: tuple[str, ...]
    """The command and its arguments."""
    cwd: str
    """Absolute path of the agent's working directory."""
    home: str | None = None
    """Value of the agent's environment variable HOME; None if the variable is not set."""
    config: str | None = None
    """Configuration directory of the agent, from its environment variable (`CODEX_HOME`, `CLAUDE_CONFIG_DIR`, …); None
    if the variable is not set."""
    started_at: float
    """Time of the start, in seconds since the epoch."""

    @property
    def name(self) -> str:
        """File name of the agent's command, without its directory: `claude`."""
        return os.path.basename(self.argv[0])


class Intent(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Record of a call that is about to be passed to its handler.

    A turn with the same id records the call's outcome.
    """

    id: str
    """Id of the call's exchange. The call's turn has the same id."""
    rollout: str
    """Id of the call's rollout."""
    run: str = ""
    """Id of this run, which distinguishes rollouts with equal ids (see `Trace.run`)."""
    number: int
    """Position, from 0, in the order in which the rollout's calls were passed to handlers."""
    at: float
    """Time when the call was received, in seconds since the epoch."""
    dialect: str
    request: Request
    agent: str | None = None
    """User-Agent header of the call, as in `Turn.agent`."""

    def __repr__(self) -> str:
        return f"<Intent {self.number} of rollout {self.rollout}, call {self.id}>"


class Score(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A score of a rollout: a name and a number."""

    rollout: str
    """Id of the rollout."""
    run: str = ""
    """Id of this run, which distinguishes rollouts with equal ids (see `Trace.run`)."""
    name: str
    value: float
    at: float
    """Time when the score was given, in seconds since the epoch."""


Entry: TypeAlias = Opening | AgentStart | Intent | Score


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a file that is missing, or was changed after it was written."""

    name: str
    """Kind of the gap, such as `lines_missing`."""
    message: str
    """Description of the gap, for people."""
    path: str
    """Path of the file."""
    line: int | None = None
    """Line number, from 1; None if the gap is at the end of the file, or concerns the whole file."""
    rollout: str | None = None
    """Id of the rollout with the gap; None if unknown."""
    run: str = ""
    call: str | None = None
    """Id of the call that the gap concerns (the call's turn has the same id). None if the gap concerns more than one
    call."""

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        whose = f" of rollout {self.rollout}" if self.rollout is not None else ""
        which = f", call {self.call}" if self.call is not None else ""
        return f"{place}: {self.name}{whose}{which}: {self.message}"
