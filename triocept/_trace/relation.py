"""How a turn stands to the turns before it, and the branches that come of that: the nouns."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .conversation import Conversation
from .turn import Turn

RelationKind: TypeAlias = Literal[
    "begins",  # a conversation of its own, and nothing says why
    "continues",  # what `turn` said and was answered, and more
    "retry",  # of `turn`, which was not answered, or whose answer the agent did not get
    "repeat",  # the same question as `turn`, which was answered
    "compaction",  # goes on from the summary that `turn` gave: the agent has dropped what stood before
    "rewrite",  # tells the conversation of `turn` in other words from its beginning
    "sub_agent",  # begins a sub-agent; the answer of `turn` called the tool that started it
    "side",  # a title, a router, a warm-up, made when the conversation was at `turn`
    "tool",  # a tool of the program made it, when the conversation was at `turn`
]


class Relation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How a turn stands to those before it."""

    kind: RelationKind
    turn: str | None = None
    """The id of the turn that this is about; None where it begins something, and nobody knows from where."""
    call: int | None = None
    """Of a sub-agent: which of the tool calls in that answer started it, from 0; None: nobody knows."""


class TurnBranch(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of turns, each of which continues the one before it. Each turn of a trace is in exactly one.

    Where several turns continue one, the first of them goes on with its branch, and each other begins a branch.
    """

    turns: tuple[Turn, ...]
    leaves: str | None = None
    """The id of the turn that its first turn continues, in another branch; None: it begins a thread."""
    conversation: Conversation
    """That of its first turn."""
