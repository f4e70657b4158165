"""Whose call is it: the agent's main conversation, a sub-agent's, or a side call such as a title.

Said by the agent where it says so, in headers and fields that were measured with real versions:

=============  =============================  ==============================  ======================================
agent          conversation                   sub-agent                       side call
=============  =============================  ==============================  ======================================
Claude Code    `x-claude-code-session-id`     `x-claude-code-agent-id`        a title: an output format, no tools
Codex          `thread-id`, else `session-id` `x-codex-parent-thread-id`      a warm-up: `generate` is false
opencode       `x-session-id`                 `x-parent-session-id`           a title: no tools
Copilot CLI    says nothing                   `x-interaction-type`            a title: no tools
gemini-cli     says nothing                   says nothing                    its router, by its schema
=============  =============================  ==============================  ======================================

Everyone else is told apart by the messages: see `conversations`. `prompt_cache_key` (Copilot, OpenHands, kimi-code) and
`x-affinity` (vibe) name a family of conversations, for sub-agents share them: what differs in it is not the same
conversation, what agrees in it need not be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request
from .._secrets import without_keys

__all__ = ["CallKind", "Conversation", "claimed_conversation", "is_router", "is_side_call"]

CallKind: TypeAlias = Literal["main", "sub_agent", "side", "tool"]

_SESSIONS = ("x-claude-code-session-id", "thread-id", "session-id", "x-session-id")
_CLAUDE_AGENT, _PARENT = "x-claude-code-agent-id", "x-parent-session-id"
_CODEX_PARENT = "x-codex-parent-thread-id"
"""In `client_metadata` of the document: a websocket has the headers of its first call (0.169)."""
_COPILOT, _COPILOT_SUB_AGENT = "x-interaction-type", "conversation-subagent"
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


def claimed_conversation(headers: Mapping[str, str], request: Request, raw: Json) -> Conversation | None:
    """What the agent itself says; None where it says nothing, an empty id where it says only of what kind the call is.
    No key is a name: where it uses one, that is `[redacted]`.

    Args:
        headers: of the call, names in lower case.
        request: the call.
        raw: its document.
    """
    session = next(filter(None, map(headers.get, _SESSIONS)), None)
    if session is None:
        of_copilot = headers.get(_COPILOT) == _COPILOT_SUB_AGENT
        return Conversation(id="", kind="sub_agent") if of_copilot else None
    session = without_keys(session)
    side = is_side_call(request, raw)
    if agent := headers.get(_CLAUDE_AGENT):
        return Conversation(
            id=f"{session}/{without_keys(agent)}", parent=session, kind="side" if side else "sub_agent"
        )
    parent = headers.get(_PARENT) or _codex_parent(request)
    parent = parent and without_keys(parent)
    return Conversation(id=session, parent=parent, kind="side" if side else "sub_agent" if parent else "main")


def _codex_parent(request: Request) -> str | None:
    said = (request.extra or {}).get("client_metadata")
    parent = said.get(_CODEX_PARENT) if isinstance(said, dict) else None
    return parent if isinstance(parent, str) and parent else None


def is_side_call(request: Request, raw: Json = None) -> bool:
    """Whether a call looks like none of a conversation: it offers no tools, though the agent has some."""
    if isinstance(raw, dict) and raw.get("generate") is False:
        return True
    return not request.tools and (request.output_format is not None or len(request.messages) <= 3)


def is_router(request: Request) -> bool:
    """Whether a call is gemini-cli's, that asks which model to ask: it comes first, and looks like the others."""
    schema = request.output_format and request.output_format.schema
    return _ROUTER in ((schema or {}).get("properties") or {})
