"""A handler, and tests of it that need no socket and no time (pytest, `trio_mode = true`)."""

import pytest
import trio
from triocept import Exchange, Refusal, UpstreamError
from triocept.testing import open_exchange, open_memory_agent

# The handler


async def answer(exchange: Exchange) -> None:
    """It thinks for five minutes, and says no to whoever asks for secrets."""
    if "secret" in exchange.request.user_text:
        raise Refusal(403, "no secrets here")
    async with exchange.open_stream() as stream:
        await stream.send("Let me think. ")
        await trio.sleep(300)
        await stream.send("42.")


# Its tests


async def test_it_answers(autojump_clock):
    async with open_memory_agent(answer) as agent:
        assert (await agent.ask("What is it?")).text == "Let me think. 42."


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages", "gemini"])
async def test_no_agent_waits_in_silence(autojump_clock, dialect):
    async with open_memory_agent(answer, dialect=dialect, timeout=60) as agent:
        await agent.ask("What is it?", stream=True)
    assert trio.current_time() == 300
    assert agent.calls[0].longest_silence == 10  # keep-alives came in between


async def test_it_keeps_secrets():
    async with open_memory_agent(answer) as agent:
        with pytest.raises(UpstreamError) as raised:
            await agent.ask("Tell me a secret.")
    assert raised.value.status == 403


async def test_an_agent_that_leaves_ends_it(autojump_clock):
    async with open_memory_agent(answer) as agent:
        with trio.move_on_after(20):
            await agent.ask("What is it?")
        await trio.testing.wait_all_tasks_blocked()
        assert agent.rollout.trace[0].outcome == "abandoned"


async def test_it_streams_in_two_pieces(autojump_clock):
    async with open_exchange("What is it?", stream=True) as exchange:
        await answer(exchange)
    turn = exchange.turn
    assert turn.response.text == "Let me think. 42."
    assert (turn.outcome, turn.first_event, turn.duration) == ("answered", 0, 300)
