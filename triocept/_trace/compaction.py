"""Whose summary a conversation goes on from: an agent whose context is full asks for one, and begins anew with it.

A call tells the summary of a turn if

1. that was answered in words, with no tool called, and was asked for a summary, or marked its answer as one;
2. the summary stands in a message of the call: what is between the marks, else the whole answer;
3. what it was asked does not: an agent that tells its whole history again in one message (DSPy) compacts nothing.

Measured with Claude Code 2.1, which puts what stands between `<summary>` marks into the first message of the user.
`<state_snapshot>` is the mark of gemini-cli and qwen-code. Others have none: of those the words of the question count.
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
"""Summaries that are looked for: the agent goes on from one of the latest."""
_MARKED = re.compile(r"<(summary|state_snapshot)>(.*?)</\1>", re.DOTALL)
_ASKED = re.compile("(?<!not a )summar|compact|compress|condens|snapshot|hand-?off", re.IGNORECASE)
"""What the question for a summary says. CrewAI asks each member for its whole answer, "not a summary"."""


def asks_for_summary(request: Request) -> bool:
    """Whether a call wants nothing but a summary: it offers no tools, and its last message asks for one."""
    return not request.tools and request.last is not None and bool(_ASKED.search(request.last.text))


def gives_summary(response: Response | None) -> bool:
    """Return True if an answer is marked as a summary."""
    return response is not None and bool(_MARKED.search(response.text))


class Summaries:
    """What was said so far that may be a summary. It is read when a conversation begins anew, not before."""

    def __init__(self) -> None:
        self._kept: deque[_Said] = deque(maxlen=_KEPT)

    def add(self, turn: Turn) -> None:
        """One more turn."""
        response = turn.response
        if response is not None and turn.outcome == "answered" and not response.tool_calls:
            self._kept.append(_Said(turn, response))

    def told_in(self, request: Request) -> Iterator[str]:
        """The ids of the turns whose summary stands in this call, the latest first."""
        if not self._kept:
            return
        texts = [message.text for message in request.messages]
        for said in reversed(self._kept):
            if said.summary and _stands_in(said.summary, texts) and not _stands_in(said.question, texts):
                yield said.turn


class _Said:
    """An answer in words."""

    def __init__(self, turn: Turn, response: Response) -> None:
        self.turn = turn.id
        self._last = turn.request.last
        self._response = response

    @cached_property
    def question(self) -> str:
        return self._last.text if self._last is not None else ""

    @cached_property
    def summary(self) -> str:
        """What may be told as a summary; empty: nothing."""
        text = self._response.text
        if marked := _MARKED.search(text):
            return marked[2].strip()
        return text.strip() if _ASKED.search(self.question) else ""


def _stands_in(text: str, texts: list[str]) -> bool:
    return bool(text) and any(text in each for each in texts)
