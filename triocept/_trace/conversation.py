"""Whose call is it: the agent's main conversation, a sub-agent's, or a side call such as a title.

Said by the agent where it says so: `claimed_conversation`, of the rollout's `calls`, has it from its headers. Everyone
else is told apart by the messages: see `conversations`. `prompt_cache_key` (Copilot, OpenHands, kimi-code) and
`x-affinity` (vibe) name a family of conversations, for sub-agents share them: what differs in it is not the same
conversation, what agrees in it need not be.

Side calls, as they were measured with real versions:

=============  ======================================
agent          side call
=============  ======================================
Claude Code    a title: an output format, no tools
Codex          a warm-up: `generate` is false
opencode       a title: no tools
Copilot CLI    a title: no tools
gemini-cli     its router, by its schema
=============  ======================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request

CallKind: TypeAlias = Literal["main", "sub_agent", "side", "tool"]

_ROUTER = "complexity_reasoning"
"""What gemini-cli's router (0.61) has to answer, among other things."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The conversation that a call belongs to."""

    id: str
    """The agent's own name of it; where it has none, the id of the turn (or exchange) that began it. In a `Turn`, empty
    where the agent says only of what kind the call is."""
    parent: str | None = None
    """The conversation that began it, where the agent says so."""
    kind: CallKind = "main"
    """Of the call: a side call (a title, a router, a warm-up) may bear its main conversation's id; a `tool` of the
    program made it (`POST …/model`, `rollout.ask`), not the agent."""


def names_of(conversations: Iterable[Conversation]) -> dict[tuple[str, CallKind], str]:
    """Return a short name for each conversation, by its id and kind: `main`, `main 2`, `sub-agent 1`.

    Args:
        conversations: one for each turn, in order. Side calls and calls of tools have no such name.
    """
    names: dict[tuple[str, CallKind], str] = {}
    counts = {"main": 0, "sub_agent": 0}
    for each in conversations:
        if each.kind in counts and (each.id, each.kind) not in names:
            counts[each.kind] += 1
            number = counts[each.kind]
            called = "main" if each.kind == "main" else "sub-agent"
            names[each.id, each.kind] = called if (called, number) == ("main", 1) else f"{called} {number}"
    return names


def is_side_call(request: Request, raw: Json = None) -> bool:
    """Whether a call looks like none of a conversation: it offers no tools, though the agent has some."""
    if isinstance(raw, dict) and raw.get("generate") is False:
        return True
    if request.tools or request.tool_results:
        return False
    return request.output_format is not None or len(request.messages) <= 3


def is_router(request: Request) -> bool:
    """Whether a call is gemini-cli's, that asks which model to ask: it comes first, and looks like the others."""
    schema = request.output_format and request.output_format.schema
    return _ROUTER in ((schema or {}).get("properties") or {})
