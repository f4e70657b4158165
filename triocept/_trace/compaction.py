"""Detection of compaction: an agent with a full context requests a summary, and restarts from it.

A call contains the summary of a turn if

1. the turn was answered in text without a tool call, and its call requested a summary, or its answer is marked as a
   summary;
2. a message of the call contains the summary: the text between the marks, else the whole answer;
3. no message of the call contains the question: an agent that repeats its whole history in one message (DSPy) compacts
   nothing.

Measured with Claude Code 2.1, which puts the text between `<summary>` marks into the first message of the user.
`<state_snapshot>` is the mark of gemini-cli and qwen-code. Other agents use no mark: for them the words of the question
decide.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

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

    def told_in(self, request: Request) -> Iterator[str]:
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
