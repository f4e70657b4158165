"""Whose call is it: the agent's main conversation, a sub-agent's, or a side call such as a title.

Said by the agent where it says so, in headers and fields that were measured with real versions:

=============  =============================  ========================  ======================================
agent          conversation                   sub-agent                 side call
=============  =============================  ========================  ======================================
Claude Code    `x-claude-code-session-id`     `x-claude-code-agent-id`  a title: an output format, no tools
Codex          `thread-id`, else `session-id` a thread of its own       a warm-up: `generate` is false
opencode       `x-session-id`                 `x-parent-session-id`     a title: no tools
gemini-cli     says nothing                   says nothing              its router: an output format, no tools
=============  =============================  ========================  ======================================

Everyone else is told apart by the messages (see `graph`): a call that continues an earlier one belongs to its
conversation, and so does one that says again what was not answered; one that does neither begins another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .graph import parents, prompt_key

if TYPE_CHECKING:
    from .turn import Turn

__all__ = ["CallKind", "Conversation", "conversation_said", "conversations", "is_side_call"]

CallKind: TypeAlias = Literal["main", "sub_agent", "side", "tool"]

_SESSIONS = ("x-claude-code-session-id", "thread-id", "session-id", "x-session-id")
_CLAUDE_AGENT, _PARENT = "x-claude-code-agent-id", "x-parent-session-id"


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The conversation that a call belongs to."""

    id: str
    """The agent's own name of it; where it has none, the id of the turn (or exchange) that began it."""
    parent: str | None = None
    """The conversation that began it, where the agent says so."""
    kind: CallKind = "main"
    """Of the call: a side call (a title, a router, a warm-up) may bear its main conversation's id; a `tool` of the
    program made it (`POST …/model`, `rollout.ask`), not the agent."""


def conversation_said(headers: Mapping[str, str], request: Request, raw: Json) -> Conversation | None:
    """What the agent itself says; None where it says nothing.

    Args:
        headers: of the call, names in lower case.
        request: the call.
        raw: its document.
    """
    session = next((headers[name] for name in _SESSIONS if headers.get(name)), None)
    if session is None:
        return None
    side = is_side_call(request, raw)
    if agent := headers.get(_CLAUDE_AGENT):
        return Conversation(id=f"{session}/{agent}", parent=session, kind="side" if side else "sub_agent")
    parent = headers.get(_PARENT)
    return Conversation(id=session, parent=parent, kind="side" if side else "sub_agent" if parent else "main")


def is_side_call(request: Request, raw: Json = None) -> bool:
    """Whether a call looks like none of a conversation: it offers no tools, though the agent has some."""
    if isinstance(raw, dict) and raw.get("generate") is False:
        return True
    return not request.tools and (request.output_format is not None or len(request.messages) <= 3)


def conversations(turns: Iterable[Turn]) -> dict[str, Conversation]:
    """For each turn's id, the conversation it belongs to: as the agent says, else by the messages."""
    turns = tuple(turns)
    above = parents(turns)
    found: dict[str, Conversation] = {}
    unanswered: dict[bytes, Conversation] = {}
    for turn in turns:
        parent = above[turn.id]
        if turn.conversation is not None:
            found[turn.id] = turn.conversation
        elif parent is not None:
            found[turn.id] = found[parent]
        else:
            key = prompt_key(turn.request.messages)
            if key in unanswered:
                found[turn.id] = unanswered.pop(key)
            else:
                kind = _kind_of_root(turn.request, found.values())
                found[turn.id] = Conversation(id=turn.id, kind=kind)
            if turn.outcome != "answered":
                unanswered[key] = found[turn.id]
    return found


def _kind_of_root(request: Request, others: Collection[Conversation]) -> CallKind:
    """What a call is that continues none, and whose agent says nothing.

    The first is the main conversation, a later one with tools a sub-agent's, a later one without a side call. But
    gemini-cli's router comes first.
    """
    others = [other for other in others if other.kind != "tool"]  # the program's own are none of the agent's
    router = request.dialect == "gemini" and request.output_format is not None
    if is_side_call(request) and (others or router):
        return "side"
    return "sub_agent" if any(other.kind == "main" for other in others) else "main"
