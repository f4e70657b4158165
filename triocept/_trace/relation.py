"""Types for the relation of a turn to earlier turns, and for the resulting branches."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .conversation import Conversation
from .turn import Turn

RelationKind: TypeAlias = Literal[
    "begins",  # a conversation of its own, for an unknown reason
    "continues",  # sends the messages of `turn`, its answer, and more
    "retry",  # of `turn`, which was not answered, or whose answer the agent did not get
    "repeat",  # the same question as `turn`, which was answered
    "compaction",  # continues from the summary in the answer of `turn`: the agent has dropped the rest
    "rewrite",  # sends the conversation of `turn` in other words from its beginning
    "sub_agent",  # begins a sub-agent; the answer of `turn` called the tool that started it
    "side",  # a title, a router, a warm-up, made when the conversation was at `turn`
    "tool",  # a tool of the program made it, when the conversation was at `turn`
]


class Relation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Relation of a turn to earlier turns."""

    kind: RelationKind
    turn: str | None = None
    """Id of the related turn; None if the turn begins something and its origin is unknown."""
    call: int | None = None
    """Index of the tool call in that answer that started the sub-agent, from 0; None: unknown."""


class TurnBranch(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of turns, each of which continues the turn before it. Each turn of a trace is in exactly one branch.

    Where several turns continue the same turn, the first of them stays in its branch, and each other turn begins a
    branch.
    """

    turns: tuple[Turn, ...]
    leaves: str | None = None
    """Id of the turn in another branch that the first turn continues; None: it begins a thread."""
    conversation: Conversation
    """Conversation of the branch's first turn."""
