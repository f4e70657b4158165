"""Which turn began a sub-agent, and which call was first told of its end.

Agents say neither. A sub-agent's first call holds the prompt that its launching call had; and what it has done comes
back either as the result of that call, which its agent waits for, or is pushed into the conversation of the one that
launched it (Claude Code from 2.1.3xx on: `<task-notification>`, wherever that conversation is by then). Claude Code
gives a sub-agent one name in its calls and in these notifications, so two that end with the same words are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from operator import is_not
from typing import NamedTuple

from ..._canonical.content import Message, Text
from ..._canonical.form import arguments_value
from ..._canonical.memory import common_head
from ..._trace.texts import texts_in
from .record import Recorded

_LEAST = 12
"""Characters of a prompt, or an answer, that are no coincidence."""
_NOTICE = "<task-id>"
"""What stands before a sub-agent's name in a notification of its end."""
_HEAD = 40
"""Characters of what was said that a tool which tells it gives as they are."""


class Telling(NamedTuple):
    """Where a conversation was first told of a sub-agent's end; the earlier one is the lesser."""

    place: int
    """That of the call."""
    text: int
    """Which of its new texts."""
    at: int
    """Characters before it in that text."""


def launch_of(first: Recorded, turns: Sequence[Recorded]) -> Recorded | None:
    """The turn that began a sub-agent.

    Args:
        first: the sub-agent's first turn.
        turns: all, in the order in which they settled.
    """
    before = [
        each
        for each in turns
        if each.settled <= first.arrived
        and each.thread != first.thread
        and each.turn.response is not None
        and each.turn.response.tool_calls
    ]
    asked = "\n".join(message.text for message in first.turn.request.messages if message.role == "user")
    for each in reversed(before):
        if any(text in asked for text in _arguments(each) if len(text) >= _LEAST):
            return each
    return next((each for each in reversed(before) if each.kind == "main"), None)


def told_in(ended: Sequence[Recorded], conversation: Sequence[Recorded]) -> Telling | None:
    """Where a conversation first tells a sub-agent's end: by its name, else by what it said; None: nowhere, or what it
    said was too little to be found.

    Args:
        ended: the sub-agent's turns.
        conversation: the turns of the one that launched it, in the order in which they came.
    """
    last, said, notice = ended[-1], _said_at_end(ended), f"{_NOTICE}{_name(ended)}<"
    is_named = last.conversation.parent is not None
    found: Telling | None = None
    before: tuple[Message, ...] = ()
    for place, each in enumerate(conversation):
        messages = each.turn.request.messages
        if each.arrived >= last.settled:
            for number, text in enumerate(_told(messages, before)):
                if (at := text.find(notice)) >= 0:
                    return Telling(place, number, at)
                if found is None and len(said) >= _LEAST and not (is_named and _NOTICE in text):
                    found = Telling(place, number, at) if (at := text.find(said)) >= 0 else None
        before = messages
    return found


def over_in(ended: Sequence[Recorded], call: Recorded) -> bool | None:
    """Return True if a call lists a sub-agent as ended, False if it lists it as running, else None.

    Claude Code 2.1.332 lists its sub-agents by name in its first call behind a compaction: `Task a25101af (type:
    local_agent) (status: completed)`, or `Background agent "count" (a25101af) is still running`.
    """
    name = re.escape(_name(ended))
    pattern = re.compile(rf"\b{name} \(type: [^)\n]*\) \(status: (?!running)|\({name}\) is still (running)")
    for message in call.turn.request.messages:
        if message.role != "assistant" and (found := pattern.search(message.text)):
            return found[1] is None
    return None


def is_silent(ended: Sequence[Recorded], call: Recorded) -> bool:
    """Whether a call tells nothing of what a sub-agent said at its end, as a text or as what a tool gave: some agents
    wait for it with a tool (Codex), which gives it in JSON."""
    said = _said_at_end(ended)
    head = said.partition("\n")[0][:_HEAD]
    given = (result.text for message in call.turn.request.messages for result in message.tool_results)
    return len(said) >= _LEAST and not any(head in text for text in given)


def _name(ended: Sequence[Recorded]) -> str:
    """Return the agent's own name of a sub-agent: the last part of its conversation's id."""
    return ended[-1].conversation.id.rpartition("/")[2]


def _said_at_end(ended: Sequence[Recorded]) -> str:
    response = ended[-1].turn.response
    return response.text.strip() if response is not None else ""


def _told(messages: Sequence[Message], before: Sequence[Message]) -> Iterator[str]:
    """What the agent and its user say in a call, and did not say in the one before it."""
    for message in messages[common_head(messages, before, is_not) :]:
        if message.role != "assistant":
            yield from (part.text for part in message.content if isinstance(part, Text))


def _arguments(launch: Recorded) -> Iterator[str]:
    assert launch.turn.response is not None
    for call in launch.turn.response.tool_calls:
        yield from (text.strip() for text in texts_in(arguments_value(call.arguments)))
