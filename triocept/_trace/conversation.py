"""Define the conversation that a call belongs to, and recognize side calls.

A conversation is the agent's main conversation, the conversation of a sub-agent, or a side call. A side call is a
separate call, such as a request for a title.

Some agents name the conversation: `claimed_conversation` (in `_rollout/calls`) reads the name from the headers. For
other agents, `conversations` derives the conversation from the messages. `prompt_cache_key` (Copilot, OpenHands,
kimi-code) and `x-affinity` (vibe) name only a family of conversations: an agent and its sub-agents send the same value.
Calls of different families belong to different conversations; one family may contain several conversations.

Side calls, observed with real versions of the agents:

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
"""A field in the answer schema of gemini-cli's router (0.61)."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The conversation that a call belongs to."""

    id: str
    """The agent's name for the conversation. If the agent sends no name: the id of the conversation's first turn (or
    exchange). In a `Turn`, the id is empty if the agent states only the kind of the call."""
    parent: str | None = None
    """Id of the conversation from which this conversation was started; None if the agent sends no such id."""
    kind: CallKind = "main"
    """Kind of the call. A side call (a title, a router, a warm-up) can have the same id as the main conversation. The
    kind `tool` means that a tool of the program sent the call (`POST …/model`, `rollout.ask`), not the agent."""


def names_of(conversations: Iterable[Conversation]) -> dict[tuple[str, CallKind], str]:
    """Return a dict from the id and kind of each conversation to a short name: `main`, `main 2`, `sub-agent 1`.

    Args:
        conversations: the conversation of each turn, in order. Side calls and calls from tools get no short name.
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
    """Return True if a call looks like a side call.

    A side call has no tools and no tool results, and either requests an output format or has at most three messages.
    Codex's warm-up (`generate` is false in `raw`) is a side call, too.
    """
    if isinstance(raw, dict) and raw.get("generate") is False:
        return True
    if request.tools or request.tool_results:
        return False
    return request.output_format is not None or len(request.messages) <= 3


def is_router(request: Request) -> bool:
    """Return True if a call is from gemini-cli's router, which selects the model for the following calls.

    The call is recognized by its answer schema. Without this check, the router's call would look like a main call,
    because it is the agent's first call.
    """
    schema = request.output_format and request.output_format.schema
    return _ROUTER in ((schema or {}).get("properties") or {})
