"""Agents of every dialect on llama.cpp's own server: its tokens, and what becomes of a call when one side goes.

The agent is played by our own reader of its dialect; real ones are in `test_agents_on_llama_cpp`.
"""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import trio

from triocept import Message, Request, Rollout, Text, Turn, UpstreamError, open_upstream
from triocept.dialects import DIALECTS
from triocept.types import PartDelta, Sampling

from .checks import (
    SAID,
    check_abandoned,
    check_answers,
    check_knows_an_overflow,
    check_runs_tools,
    check_tokens,
)
from .forwarding import (
    BOTH,
    CALLED,
    CHAT,
    COMPLETIONS,
    MESSAGES,
    RESPONSES,
    TALKING,
    TOOLS,
    answered,
    ask,
    base_of,
    first_pieces,
    forwarding,
    listening,
    requested,
)
from .servers import LlamaCpp

OF_LLAMA = (CHAT, RESPONSES, MESSAGES)
CONTEXT = 65_536
"""Tokens that a slot has room for."""
on_provider = pytest.mark.parametrize("provider", OF_LLAMA)


@on_provider
@pytest.mark.parametrize("agent", DIALECTS)
@BOTH
async def test_agents_of_every_dialect_are_answered_by_llama_cpp(
    llama_cpp: str, agent: str, provider: str, stream: bool
) -> None:
    await check_answers(llama_cpp, provider, agent, stream=stream)


@on_provider
@pytest.mark.parametrize("agent", TALKING)
@BOTH
async def test_agents_of_every_dialect_run_their_tools_on_llama_cpp(
    llama_cpp: str, agent: str, provider: str, stream: bool
) -> None:
    await check_runs_tools(llama_cpp, provider, agent, stream=stream)


@on_provider
@pytest.mark.ci
async def test_a_tool_call_of_llama_cpp_comes_in_pieces(llama_cpp: str, provider: str) -> None:
    async with open_upstream(
        base_of(llama_cpp, provider), dialect=provider, model="scripted", hold_calls=False
    ) as upstream:
        async with upstream.open_response(requested(provider, "look", stream=True, tools=TOOLS)) as events:
            pieces = [event.text async for event in events if isinstance(event, PartDelta)]
    assert len([piece for piece in pieces if piece]) >= 4


@pytest.mark.parametrize("agent", TALKING)
@BOTH
@pytest.mark.parametrize("cap", [None, 5])
async def test_llama_cpp_gives_the_tokens_of_a_call_with_tools_without_a_gap(
    llama_cpp: str, agent: str, stream: bool, cap: int | None
) -> None:
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp") as rollout:
        sampling = Sampling(max_output_tokens=cap)
        told = await ask(rollout, agent, "look", stream=stream, tools=TOOLS, sampling=sampling)
        if cap is None:
            assert [call.parsed() for call in told.tool_calls] == CALLED
            told = await ask(rollout, agent, *answered(agent, told), stream=stream, tools=TOOLS)
            assert "I have looked" in told.text
    for turn in rollout.trace:
        check_tokens(turn, cap)


@BOTH
async def test_llama_cpp_gives_the_tokens_of_a_text_completion_without_a_gap(
    llama_cpp: str, stream: bool
) -> None:
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp") as rollout:
        assert "tiny script" in (await ask(rollout, COMPLETIONS, "script", stream=stream)).text
    assert [turn.tokens.gaps if turn.tokens else None for turn in rollout.trace] == [()]


@pytest.mark.ci
async def test_the_ids_of_a_prompt_are_those_that_llama_cpp_has_read_though_it_tidies_up_what_it_tells(
    llama_cpp: str,
) -> None:
    """For this tokenizer it tells `find. -name` in place of `find . -name`, and that has other ids."""
    words = "script: find . -name x ; it 's"
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp") as rollout:
        await ask(rollout, MESSAGES, words, stream=True)
    (turn,) = rollout.trace
    assert turn.tokens.gaps == ()
    async with httpx2.AsyncClient(base_url=llama_cpp) as client:
        asked = {"messages": [{"role": "user", "content": words}], "verbose": True, "max_tokens": 1}
        told = (await client.post("/v1/chat/completions", json=asked)).json()["__verbose"]["prompt"]
        assert "find. -name" in told, "it does not tidy up any more: this is no test then"
        ids = {"tokens": turn.tokens.prompt_ids.tolist()}
        assert words in (await client.post("/detokenize", json=ids)).json()["content"]


@BOTH
async def test_llama_cpp_leaves_out_the_probabilities_of_a_stop_string_and_the_turn_says_so(
    llama_cpp: str, stream: bool
) -> None:
    async with forwarding(llama_cpp, CHAT, model="scripted", tokens="llama_cpp") as rollout:
        sampling = Sampling(stop=(" tiny",))
        told = await ask(rollout, CHAT, "script", stream=stream, sampling=sampling)
    assert told.text == "Hello from the"
    (turn,) = rollout.trace
    assert turn.tokens.gaps == ("logprob_count",)


@pytest.mark.ci
@pytest.mark.parametrize("provider", [CHAT, MESSAGES])
async def test_llama_cpp_counts_the_tokens_of_a_prompt(llama_cpp: str, provider: str) -> None:
    request = Request(dialect="", model="scripted", messages=(Message("user", (Text("look"),)),), tools=TOOLS)
    async with open_upstream(base_of(llama_cpp, provider), dialect=provider) as upstream:
        counted = await upstream.count_input_tokens(request)
        answered = await upstream.fetch(request)
    assert counted == answered.usage.input_tokens


@on_provider
@pytest.mark.parametrize("agent", DIALECTS)
@pytest.mark.ci
async def test_an_agent_that_hangs_up_in_mid_stream_stops_the_server(
    llama_cpp: str, agent: str, provider: str
) -> None:
    """It would babble until its context is full, for half a minute."""
    async with forwarding(llama_cpp, provider, model="scripted") as rollout:
        async with listening(rollout, agent, "babble") as events:
            heard = [event async for event in first_pieces(events, 5)]
            (working,) = [slot["id"] for slot in await slots(llama_cpp) if slot["is_processing"]]
        assert len(heard) == 5
        with trio.fail_after(10):
            while (slot := (await slots(llama_cpp))[working])["is_processing"]:
                await trio.sleep(0.05)
        assert slot["n_prompt_tokens"] < CONTEXT / 2
    (turn,) = rollout.trace
    check_abandoned(turn)


@on_provider
@pytest.mark.parametrize("agent", DIALECTS)
@BOTH
async def test_a_prompt_that_is_too_long_for_llama_cpp_is_an_error_that_the_agent_knows_as_such(
    llama_cpp: str, agent: str, provider: str, stream: bool
) -> None:
    await check_knows_an_overflow(llama_cpp, provider, agent, stream=stream, context=CONTEXT)


@on_provider
@pytest.mark.ci
async def test_a_server_killed_in_mid_stream_is_an_error_for_every_agent_and_the_next_call_works(
    mortal: LlamaCpp, provider: str
) -> None:
    """kill -9 while an agent of each dialect listens; restarted at the same address, for the same rollout."""
    await trio.to_thread.run_sync(mortal.start)
    async with forwarding(mortal.url, provider, model="scripted") as rollout:
        raised = await killed_while_listening(mortal, rollout)
        assert raised.keys() == set(DIALECTS)
        await trio.to_thread.run_sync(mortal.start)
        for agent in DIALECTS:
            assert (await ask(rollout, agent, "script", stream=True)).text == SAID
    broken, whole = rollout.trace[: len(DIALECTS)], rollout.trace[len(DIALECTS) :]
    assert sorted(turn.dialect for turn in broken) == sorted(DIALECTS)
    for turn in broken:
        check_broken(turn)
    assert [turn.outcome for turn in whole] == ["answered"] * len(DIALECTS)


async def killed_while_listening(server: LlamaCpp, rollout: Rollout) -> dict[str, UpstreamError]:
    """The error that an agent of each dialect reads when the server of its babble is killed."""
    listen, heard = trio.open_memory_channel[str](len(DIALECTS))
    raised: dict[str, UpstreamError] = {}

    async def agent_of(dialect: str) -> None:
        with pytest.raises(UpstreamError) as caught:
            async with listening(rollout, dialect, "babble") as events:
                async for _ in first_pieces(events, 5):
                    pass
                listen.send_nowait(dialect)
                async for _ in events:
                    pass
        raised[dialect] = caught.value

    async with trio.open_nursery() as nursery:
        for dialect in DIALECTS:
            nursery.start_soon(agent_of, dialect)
        for _ in DIALECTS:
            await heard.receive()
        server.kill()
    return raised


def check_broken(turn: Turn) -> None:
    """It is recorded as what it is: a refusal by a provider whose stream was cut, with what had been said."""
    assert turn.outcome == "refused"
    assert turn.error.type == "UpstreamTruncated"
    assert turn.response.text != ""


async def slots(url: str) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient() as client:
        found: list[dict[str, Any]] = (await client.get(f"{url}/slots")).json()
        return found
