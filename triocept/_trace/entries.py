"""What is recorded beside turns and service calls: how a rollout began, its agents, the calls it took, its scores.

All of them are frozen, and each says whose it is. A recorder that wants them has `record_entry` (see `recorder`).
"""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .branch import Branch

Ending: TypeAlias = Literal["body", "cancelled", "raised"]
"""How a rollout's body ended: by itself, by a cancellation from outside, or with an error."""


class Opening(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A rollout has begun."""

    rollout: str
    """Its id."""
    run: str = ""
    """Which rollout of this id, as of `Trace.run`."""
    at: float
    """Seconds since the epoch."""
    versions: dict[str, str] = {}
    """Of `triocept` and of `python`."""
    metadata: dict[str, Json] = {}
    """What `open_rollout(metadata=…)` was given."""
    branch: Branch | None = None
    """Of a child rollout: where it leaves its parent."""


class AgentStart(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An agent's process is about to be started.

    What an agent calls itself, and its version, stands in its turns: `turn.agent`.
    """

    rollout: str
    """The id of its rollout."""
    run: str = ""
    """Which rollout of this id, as of `Trace.run`."""
    argv: tuple[str, ...]
    """The command and its arguments."""
    cwd: str
    """The directory that it works in, absolute."""
    home: str | None = None
    """Its HOME; None where it has none."""
    config: str | None = None
    """The directory that it was told to keep its configuration in (`CODEX_HOME`, `CLAUDE_CONFIG_DIR`, …), if it was."""
    started_at: float
    """Seconds since the epoch."""

    @property
    def name(self) -> str:
        """The last part of its command: `claude`."""
        return os.path.basename(self.argv[0])


class Intent(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A call is about to be handed to whatever answers it. A turn of the same id tells what became of it."""

    id: str
    """That of its exchange, and of its turn."""
    rollout: str
    """The id of its rollout."""
    run: str = ""
    """Which rollout of this id, as of `Trace.run`."""
    number: int
    """Its place in the order in which the rollout's calls were handed over, from 0."""
    at: float
    """Seconds since the epoch."""
    dialect: str
    request: Request
    agent: str | None = None
    """What the caller calls itself, as `Turn.agent`."""

    def __repr__(self) -> str:
        """Short, as that of a turn."""
        return f"<Intent {self.number} of rollout {self.rollout}, call {self.id}>"


class Score(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What somebody makes of a rollout: one number, by name."""

    rollout: str
    """The id of the rollout."""
    run: str = ""
    """Which rollout of this id, as of `Trace.run`."""
    name: str
    value: float
    at: float
    """Seconds since the epoch."""


Entry: TypeAlias = Opening | AgentStart | Intent | Score


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that should be in a file, and is not, or is not as it was written."""

    name: str
    """What kind of gap; the list of them is in `check`."""
    message: str
    """What is the matter, in words."""
    path: str
    """The file."""
    line: int | None = None
    """Counted from 1; None: it is about the file's end, or the whole file."""
    rollout: str | None = None
    """Whose it is; None where nothing tells."""
    run: str = ""
    call: str | None = None
    """The id of the call, and of its turn, that it is about."""

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        whose = f" of rollout {self.rollout}" if self.rollout is not None else ""
        which = f", call {self.call}" if self.call is not None else ""
        return f"{place}: {self.name}{whose}{which}: {self.message}"
