"""Detection of calls that continue a conversation from another beginning: after a compaction, or after a handoff.

Compaction: an agent with a full context requests a summary, and restarts from it. A call contains the summary of a turn
if

1. the turn was answered in text without a tool call, and its call requested a summary, or its answer is marked as a
   summary;
2. a message of the call contains the summary: the text between the marks, else the whole answer;
3. no message of the call contains the question: an agent that repeats its whole history in one message (DSPy) compacts
   nothing.

Measured with Claude Code 2.1, which puts the text between `<summary>` marks into the first message of the user.
`<state_snapshot>` is the mark of gemini-cli and qwen-code. Other agents use no mark: for them the words of the question
decide.

Handoff: another agent continues a conversation, under a system prompt of its own. Behind the system prompt, its first
call has one of these forms:

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

import re
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import dropwhile, groupby, takewhile
from typing import TYPE_CHECKING

import msgspec

from .._canonical.content import Message, Opaque, Reasoning, ToolCall, ToolResult
from .._canonical.form import join_messages, message_key
from .._canonical.request import Request
from .._canonical.response import Response

if TYPE_CHECKING:
    from .turn import Turn

_KEPT = 16
"""Maximum summaries kept: an agent continues from a recent summary."""
_MARKED = re.compile(r"<(summary|state_snapshot)>(.*?)</\1>", re.DOTALL)
_ASKED = re.compile("(?<!not a )summar|compact|compress|condens|snapshot|hand-?off", re.IGNORECASE)
"""Words in a request for a summary. CrewAI requests from each member its whole answer, "not a summary"."""


def asks_for_summary(request: Request) -> bool:
    """Return True if a call only requests a summary: it offers no tools, and its last message requests a summary."""
    return not request.tools and request.last is not None and bool(_ASKED.search(request.last.text))


def gives_summary(response: Response | None) -> bool:
    """Return True if an answer is marked as a summary."""
    return response is not None and bool(_MARKED.search(response.text))


class Summaries:
    """Recent answers that may be summaries. They are read only when a conversation restarts."""

    def __init__(self) -> None:
        self._kept: deque[_Said] = deque(maxlen=_KEPT)

    def add(self, turn: Turn) -> None:
        """Add a turn."""
        response = turn.response
        if response is not None and turn.outcome == "answered" and not response.tool_calls:
            self._kept.append(_Said(turn, response))

    def found_in(self, request: Request) -> Iterator[str]:
        """Yield the ids of the turns whose summary this call contains, the latest first."""
        if not self._kept:
            return
        texts = [message.text for message in request.messages]
        for said in reversed(self._kept):
            if said.summary and _stands_in(said.summary, texts) and not _stands_in(said.question, texts):
                yield said.turn


class _Said:
    """An answer in text."""

    def __init__(self, turn: Turn, response: Response) -> None:
        self.turn = turn.id
        self._last = turn.request.last
        self._response = response

    @cached_property
    def question(self) -> str:
        return self._last.text if self._last is not None else ""

    @cached_property
    def summary(self) -> str:
        """The text that a later call may repeat as a summary; empty: no summary."""
        text = self._response.text
        if marked := _MARKED.search(text):
            return marked[2].strip()
        return text.strip() if _ASKED.search(self.question) else ""


def _stands_in(text: str, texts: list[str]) -> bool:
    return bool(text) and any(text in each for each in texts)


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
        question: the texts of the user in the conversation's first request. In a nested history they are literal, or in
            JSON.
        follows: True if no other turn of the rollout is between `latest` and `request`.
    """
    messages, before = _without_system(request.messages), _without_system(latest.messages)
    names = [call.name for call in answer.tool_calls]
    given = Message("assistant", tuple(answer.content))
    if 0 < len(before) < len(messages) and all(map(_is_same, before, messages)):
        behind = messages[len(before) :]
        if said := tuple(takewhile(lambda message: message.role == "assistant", behind)):
            return _is_same(join_messages(said), given)
        text = "\n".join(message.text for message in behind)
        return bool(names) and all(name in text for name in names)
    if not (messages and names):
        return False
    if messages[0].role == "assistant":
        text = messages[0].text
        asked = [each in text or msgspec.json.encode(each)[1:-1].decode() in text for each in question]
        return all(name in text for name in names) and bool(asked) and all(asked)
    if not follows or not all(name.startswith(_TRANSFER) for name in names):
        return False
    if any(message.tool_calls or message.tool_results for message in messages):
        return False
    return _without_tools(messages) == _without_tools((*before, given))


def _without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(dropwhile(lambda message: message.role in ("system", "developer"), messages))


def _is_same(one: Message, other: Message) -> bool:
    return one is other or message_key(one) == message_key(other)


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
