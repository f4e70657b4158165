"""The turn that began a sub-agent, and the call that first reports its end.

Agents mark neither. A sub-agent's first call contains the prompt of the call that launched it. Its result comes back in
one of two ways: as the result of that call, which its agent waits for; or pushed into the conversation that launched it
(Claude Code from 2.1.3xx on: `<task-notification>`, at that conversation's current position). Claude Code names a
sub-agent equally in its calls and in these notifications, so two sub-agents with equal final texts can be
distinguished.
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
"""Minimum characters of a prompt, or an answer, whose repetition is not a coincidence."""
_NOTICE = "<task-id>"
"""Text before a sub-agent's name in a notification of its end."""
_HEAD = 40
"""Characters of a final text that a tool repeats unchanged."""


class Telling(NamedTuple):
    """Position at which a conversation first reports a sub-agent's end; earlier positions compare as less."""

    place: int
    """Number of the call."""
    text: int
    """Index of the new text in the call."""
    at: int
    """Characters before it in the text."""


def launch_of(first: Recorded, turns: Sequence[Recorded]) -> Recorded | None:
    """Return the turn that began a sub-agent.

    Args:
        first: the sub-agent's first turn.
        turns: all turns, in the order in which they settled.
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
    """Return where a conversation first reports a sub-agent's end, by its name, else by its final text.

    None: it is not reported, or the final text is too short to be found.

    Args:
        ended: the sub-agent's turns.
        conversation: the turns of the conversation that launched it, in order of arrival.
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

    Claude Code 2.1.332 lists its sub-agents by name in its first call after a compaction: `Task a25101af (type:
    local_agent) (status: completed)`, or `Background agent "count" (a25101af) is still running`.
    """
    name = re.escape(_name(ended))
    pattern = re.compile(rf"\b{name} \(type: [^)\n]*\) \(status: (?!running)|\({name}\) is still (running)")
    for message in call.turn.request.messages:
        if message.role != "assistant" and (found := pattern.search(message.text)):
            return found[1] is None
    return None


def is_silent(ended: Sequence[Recorded], call: Recorded) -> bool:
    """Return True if a call contains no part of a sub-agent's final text, neither as text nor in a tool's result.

    Some agents wait for a sub-agent with a tool (Codex), which returns the text in JSON."""
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
    """Yield the texts of the agent and its user in a call that the previous call did not contain."""
    for message in messages[common_head(messages, before, is_not) :]:
        if message.role != "assistant":
            yield from (part.text for part in message.content if isinstance(part, Text))


def _arguments(launch: Recorded) -> Iterator[str]:
    assert launch.turn.response is not None
    for call in launch.turn.response.tool_calls:
        yield from (text.strip() for text in texts_in(arguments_value(call.arguments)))
