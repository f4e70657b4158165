"""Let a person decide about tool calls on the endpoint's web page. Each call waits for this decision.

Rules:

1. The first decision about a question takes effect. For every later decision, `Question.decide` returns False.
2. A question is withdrawn when its policy is cancelled: the agent has disconnected, a time limit has passed, or another
   policy has decided first. If a person closes the page in one browser, the question stays on all other open pages.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, final

import trio

from .._canonical.content import ToolCall

if TYPE_CHECKING:
    from .decision import Decision


ASKED: ContextVar[tuple[str, int]] = ContextVar("asked")
"""Context variable that identifies the decision which the current task makes: the rollout's run, and the number of the
`DecisionAsked` event.

The id of the tool call would not identify the decision, because the model chooses the ids, and may use one id twice."""


@final
class Question:
    """A tool call that waits for a person's decision."""

    def __init__(self, call: ToolCall, asked: tuple[str, int]) -> None:
        self.call = call
        self.asked = asked
        """The run and the event number (as in `ASKED`) of the decision to which this question belongs."""
        self._news = trio.Event()
        self._decision: Decision | None = None

    @property
    def decided(self) -> bool:
        """True if a person has decided. False if the question still waits, or was withdrawn."""
        return self._decision is not None

    def decide(self, decision: Decision) -> bool:
        if not self._news.statistics().tasks_waiting:
            return False
        self._decision = decision
        self._news.set()
        return True

    async def wait(self) -> Decision:
        """Wait for the decision and return it. Cancellation: withdraws the question."""
        await self._news.wait()
        assert self._decision is not None
        return self._decision


@final
class Questions:
    """The questions to people that an endpoint's web page shows."""

    def __init__(self, on_open: Callable[[Question], None], on_close: Callable[[Question], None]) -> None:
        self._on_open = on_open
        self._on_close = on_close

    async def ask(self, call: ToolCall, asked: tuple[str, int]) -> Decision:
        """Show a tool call on the page, and return the decision of a person.

        `asked` is the value of the context variable `ASKED`.
        """
        question = Question(call, asked)
        self._on_open(question)
        try:
            return await question.wait()
        finally:
            self._on_close(question)
