"""Detection of a handoff: another agent continues a conversation, under a system prompt of its own.

Behind the system prompt, the other agent's first call has one of these forms:

1. The messages of the conversation's latest call, and behind them its answer: unchanged (OpenAI Agents), or in words
   that name each tool it called (ADK).
2. The messages of the latest call and its answer, all without tool calls, tool results and reasoning
   (`remove_all_tools` of OpenAI Agents). A sub-agent with the same task looks the same. So the latest answer must call
   nothing but `transfer_to_…` tools, and no other turn may be between.
3. A message of the model that contains the user's texts, and names each tool that the latest answer called
   (`nest_handoff_history` of OpenAI Agents). A sub-agent's task is the user's message.

Measured with openai-agents 0.24 and google-adk 2.13. Other filters of a history are not recognized.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, takewhile

import msgspec

from .._canonical.content import Message, Opaque, Reasoning, ToolCall, ToolResult
from .._canonical.form import join_messages, message_key
from .._canonical.request import Request
from .._canonical.response import Response

_TRANSFER = "transfer_to_"
"""Beginning of the name of a tool that hands over, by the convention of OpenAI Agents, LangGraph and AutoGen."""
_FILTERED = (Reasoning, ToolCall, ToolResult, Opaque)


def is_handed_over(
    request: Request, latest: Request, answer: Response, *, question: Iterable[str], follows: bool
) -> bool:
    """Return True if a request continues a conversation under another system prompt.

    Args:
        request: the first request under the system prompt.
        latest: the latest request of the conversation.
        answer: the answer to `latest`.
        question: the texts of the user in the conversation's first request.
        follows: True if no other turn of the rollout is between `latest` and `request`.
    """
    messages, before = _without_system(request.messages), _without_system(latest.messages)
    if 0 < len(before) < len(messages) and all(map(_is_same, before, messages)):
        return _begins_with(answer, messages[len(before) :])
    names = [call.name for call in answer.tool_calls]
    if not (messages and names):
        return False
    if messages[0].role == "assistant":
        text = messages[0].text
        return all(name in text for name in names) and _contains(text, question)
    if not follows or not all(name.startswith(_TRANSFER) for name in names):
        return False
    if any(message.tool_calls or message.tool_results for message in messages):
        return False
    return _without_tools(messages) == _without_tools((*before, Message("assistant", tuple(answer.content))))


def _without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    start = 0
    while start < len(messages) and messages[start].role in ("system", "developer"):
        start += 1
    return messages[start:]


def _is_same(one: Message, other: Message) -> bool:
    return one is other or message_key(one) == message_key(other)


def _begins_with(answer: Response, messages: tuple[Message, ...]) -> bool:
    """Return True if these messages begin with an answer, or name each tool that it called."""
    said = tuple(takewhile(lambda message: message.role == "assistant", messages))
    if said:
        return _is_same(join_messages(said), Message("assistant", tuple(answer.content)))
    names = [call.name for call in answer.tool_calls]
    text = "\n".join(message.text for message in messages)
    return bool(names) and all(name in text for name in names)


def _contains(text: str, question: Iterable[str]) -> bool:
    """Return True if a text contains each text of the question, literally or in JSON; False for no question."""
    found = [each in text or msgspec.json.encode(each)[1:-1].decode() in text for each in question]
    return bool(found) and all(found)


def _without_tools(messages: tuple[Message, ...]) -> list[bytes]:
    """Return the keys of the messages without tool calls, tool results and reasoning."""
    kept = [
        Message(message.role, content, message.name)
        for message in messages
        if (content := tuple(part for part in message.content if not isinstance(part, _FILTERED)))
    ]
    keys: list[bytes] = []
    for role, group in groupby(kept, key=lambda message: message.role):
        same = list(group)
        keys += map(message_key, [join_messages(same)] if role == "assistant" else same)
    return keys
