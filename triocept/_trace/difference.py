"""What is different in one turn's call from another's: the nouns."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from .._canonical.content import Json, Message


class Edit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was changed in a message, as one replacement in its text (the texts of its parts, line by line)."""

    at: Literal["start", "end", "middle", "elsewhere"]
    """Where the replacement stands in the old text: what grew at its end is `end`. `elsewhere`: the text is the same,
    and something beside it differs (whether a result is an error, a name)."""
    place: int
    """The characters before it, which are the same."""
    removed: str = ""
    added: str = ""

    @property
    def growth(self) -> int:
        """By how many characters the message is longer; negative: shorter."""
        return len(self.added) - len(self.removed)


class MessageDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A message of one call or of both."""

    kind: Literal["same", "added", "dropped", "edited"]
    """`same` as the trace has it: what agents change without meaning it (cache marks, ids of calls) is no edit."""
    before: int | None = None
    """Its place in the first call; None: it is not there."""
    after: int | None = None
    """Likewise in the second."""
    old: Message | None = None
    new: Message | None = None
    edit: Edit | None = None
    """None but for kind `edited`."""


class ToolsDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The tools that are offered, by their names."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    """Another description, or other parameters."""
    reordered: bool = False
    """Whether those that are in both stand in another order: the same to a model, and another prompt to a cache."""
    count: int = 0
    """How many the second call offers."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.dropped or self.edited or self.reordered)


class TurnDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What is different in the call of one turn from that of another. Their answers are not compared."""

    before: str
    """The id of the one turn."""
    after: str
    """And of the other."""
    messages: tuple[MessageDiff, ...]
    """All of both, in order, those that are the same included."""
    tools: ToolsDiff
    settings: dict[str, tuple[Json, Json]]
    """What else differs, before and after, by its path in the request: `model`, `sampling.temperature`,
    `extra.metadata`; None where it is missing."""

    def __repr__(self) -> str:
        """Short: it holds all the messages."""
        counts = Counter(each.kind for each in self.messages)
        messages = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        return f"<TurnDiff {self.before} to {self.after}: messages {messages or 'none'}; settings {[*self.settings]}>"

    @property
    def changes(self) -> tuple[MessageDiff, ...]:
        """The messages that are not the same."""
        return tuple(each for each in self.messages if each.kind != "same")
