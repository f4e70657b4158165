"""What holds of every real server of the scripted model, whoever asks it."""

from __future__ import annotations

import pytest

from triocept import Turn
from triocept.errors import ContextLengthError

from .forwarding import CALLED, TOOLS, answered, ask, forwarding

SAID = "Hello from the tiny script \u00e9\U0001f600"


async def check_answers(url: str, provider: str, agent: str, *, stream: bool) -> None:
    """An agent is answered, and the turn says the same."""
    async with forwarding(url, provider, model="scripted") as rollout:
        told = await ask(rollout, agent, "script", stream=stream)
    assert (told.text, told.stop_reason) == (SAID, "end")
    (turn,) = rollout.trace
    assert (turn.outcome, turn.request.stream) == ("answered", stream)
    assert turn.response.text == SAID


async def check_runs_tools(url: str, provider: str, agent: str, *, stream: bool) -> None:
    """An agent is told to call its tools, and goes on with their results."""
    async with forwarding(url, provider, model="scripted") as rollout:
        told = await ask(rollout, agent, "look", stream=stream, tools=TOOLS)
        assert [call.parsed() for call in told.tool_calls] == CALLED
        assert told.stop_reason == "tool_use"
        told = await ask(rollout, agent, *answered(agent, told), stream=stream, tools=TOOLS)
        assert "I have looked" in told.text
    assert [turn.outcome for turn in rollout.trace] == ["answered"] * 2


async def check_knows_an_overflow(url: str, provider: str, agent: str, *, stream: bool, context: int) -> None:
    """A prompt that is longer than the context is an error that the agent knows as such, and the next is answered."""
    async with forwarding(url, provider, model="scripted") as rollout:
        with pytest.raises(ContextLengthError) as caught:
            await ask(rollout, agent, "7 " * context, stream=stream)
        assert (await ask(rollout, agent, "script", stream=stream)).text == SAID
    assert caught.value.status in (400, 413)
    assert [turn.outcome for turn in rollout.trace] == ["refused", "answered"]
    assert rollout.trace[0].error.type == "ContextLengthError"


def check_tokens(turn: Turn, cap: int | None) -> None:
    """All of its tokens are there, as many as the server counts; with a cap, so many were written."""
    assert turn.tokens.gaps == ()
    assert len(turn.tokens.completion_ids) == len(turn.tokens.logprobs) == (cap or len(turn.tokens.logprobs))
    assert len(turn.tokens.prompt_ids) == turn.response.usage.input_tokens > 10


def check_abandoned(turn: Turn) -> None:
    """Its agent hung up, and it says what had been said."""
    assert turn.outcome == "abandoned"
    assert turn.response.text != ""
