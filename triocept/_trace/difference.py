"""Types for the differences between the calls of two turns."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from .._canonical.content import Json, Message


class Edit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change to a message, as one replacement in its text (the texts of its parts, line by line)."""

    at: Literal["start", "end", "middle", "elsewhere"]
    """Place of the replacement in the old text: text that grew at its end is `end`. `elsewhere`: the text is equal, and
    another field differs (a result's error flag, a name)."""
    place: int
    """Number of equal characters before the replacement."""
    removed: str = ""
    added: str = ""

    @property
    def growth(self) -> int:
        """Characters by which the message is longer; negative: shorter."""
        return len(self.added) - len(self.removed)


class MessageDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A message of one call or of both."""

    kind: Literal["same", "added", "dropped", "edited"]
    """`same` as in the trace: insignificant changes by agents (cache marks, ids of calls) are no edit."""
    before: int | None = None
    """Index in the first call; None: not in that call."""
    after: int | None = None
    """Index in the second call; None: not in that call."""
    old: Message | None = None
    new: Message | None = None
    edit: Edit | None = None
    """The edit; None for other kinds than `edited`."""


class ToolsDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Differences between the offered tools, by name."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    """Tools with another description or other parameters."""
    reordered: bool = False
    """True if the common tools are in another order: equal to a model, and another prompt to a cache."""
    count: int = 0
    """Number of tools in the second call."""

    def __bool__(self) -> bool:
        """Return True if anything differs."""
        return bool(self.added or self.dropped or self.edited or self.reordered)


class TurnDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Differences between the calls of two turns. Their answers are not compared."""

    before: str
    """Id of the first turn."""
    after: str
    """Id of the second turn."""
    messages: tuple[MessageDiff, ...]
    """All messages of both calls, in order, equal messages included."""
    tools: ToolsDiff
    settings: dict[str, tuple[Json, Json]]
    """Other differences, before and after, by the path in the request: `model`, `sampling.temperature`,
    `extra.metadata`; None for a missing value."""

    def __repr__(self) -> str:
        """Return a short text without the messages."""
        counts = Counter(each.kind for each in self.messages)
        messages = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        return f"<TurnDiff {self.before} to {self.after}: messages {messages or 'none'}; settings {[*self.settings]}>"

    @property
    def changes(self) -> tuple[MessageDiff, ...]:
        """The messages that differ."""
        return tuple(each for each in self.messages if each.kind != "same")
