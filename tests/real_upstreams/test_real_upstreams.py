"""Agents of every dialect on aimock and transformers serve, whole and streamed.

The agent is played by our own reader of its dialect; what real agents and SDKs make of these answers is tested
elsewhere.
"""

from __future__ import annotations

import httpx2
import pytest
import trio

from triocept import Message, Request, Text, UpstreamError, open_upstream
from triocept.dialects import DIALECTS
from triocept.traces import steps
from triocept.types import PartDelta, Reasoning, Sampling

from .forwarding import CALLED, CHAT, COMPLETIONS, TALKING, TOOLS, answered, ask, forwarding

OF_AIMOCK = TALKING
HELLO = "Hello from aimock, in a few words \u00e9."
BOTH = pytest.mark.parametrize("stream", [False, True])


@pytest.mark.parametrize("provider", OF_AIMOCK)
@pytest.mark.parametrize("agent", DIALECTS)
@BOTH
async def test_text_and_usage_come_from_aimock(aimock: str, agent: str, provider: str, stream: bool) -> None:
    async with forwarding(aimock, provider) as rollout:
        told = await ask(rollout, agent, "hello", stream=stream)
    assert (told.text, told.stop_reason) == (HELLO, "end")
    (turn,) = rollout.trace
    assert turn.outcome == "answered"
    assert turn.response.text == HELLO
    assert turn.notes["upstream"]["request_id"]


@pytest.mark.parametrize("provider", OF_AIMOCK)
@pytest.mark.parametrize("agent", TALKING)
@BOTH
async def test_parallel_tools_and_their_results_pass_through_aimock(
    aimock: str, agent: str, provider: str, stream: bool
) -> None:
    async with forwarding(aimock, provider) as rollout:
        told = await ask(rollout, agent, "look", stream=stream, tools=TOOLS)
        assert [call.parsed() for call in told.tool_calls] == CALLED
        assert told.stop_reason == "tool_use"
        told = await ask(rollout, agent, *answered(agent, told), stream=stream, tools=TOOLS)
        assert told.text == "I have looked."


@pytest.mark.parametrize("provider", OF_AIMOCK)
@pytest.mark.parametrize("agent", TALKING)
@BOTH
async def test_reasoning_comes_from_aimock(aimock: str, agent: str, provider: str, stream: bool) -> None:
    async with forwarding(aimock, provider) as rollout:
        told = await ask(rollout, agent, "think", stream=stream)
    assert told.text == "Thought."
    assert "".join(part.text for part in told.content if isinstance(part, Reasoning)) == "Let me think."


@pytest.mark.parametrize("provider", OF_AIMOCK)
@pytest.mark.parametrize("agent", DIALECTS)
@BOTH
async def test_aimocks_rate_limit_reaches_the_agent(
    aimock: str, agent: str, provider: str, stream: bool
) -> None:
    async with forwarding(aimock, provider) as rollout:
        with pytest.raises(UpstreamError, match="Slow down") as caught:
            await ask(rollout, agent, "limited", stream=stream)
    assert (caught.value.status, caught.value.headers["retry-after"]) == (429, "1")
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("provider", OF_AIMOCK)
@pytest.mark.parametrize("agent", DIALECTS)
async def test_a_stream_that_aimock_breaks_off_is_never_a_success(
    aimock: str, agent: str, provider: str
) -> None:
    async with forwarding(aimock, provider) as rollout:
        with pytest.raises(UpstreamError):
            await ask(rollout, agent, "break off", stream=True)
    (turn,) = rollout.trace
    assert turn.outcome == "refused"
    assert turn.error.type in ("UpstreamTruncated", "UpstreamError")


@pytest.mark.parametrize("provider", OF_AIMOCK)
@pytest.mark.parametrize("agent", TALKING)
async def test_a_slow_stream_of_aimocks_comes_piece_by_piece(aimock: str, agent: str, provider: str) -> None:
    times: list[float] = []
    async with forwarding(aimock, provider) as rollout:
        request = Request(
            dialect=agent, model="m", messages=(Message("user", (Text("slowly"),)),), stream=True
        )
        async with open_upstream(rollout.base_url(agent), dialect=agent, api_key=rollout.api_key) as ear:
            async with ear.open_response(request) as events:
                times += [trio.current_time() async for event in events if isinstance(event, PartDelta)]
    assert len(times) >= 4
    assert times[-1] - times[0] > 0.02


async def chaos(url: str, **rates: float) -> None:
    async with httpx2.AsyncClient() as client:
        if rates:
            (await client.post(f"{url}/__aimock/chaos", json=rates)).raise_for_status()
        else:
            (await client.delete(f"{url}/__aimock/chaos")).raise_for_status()


@pytest.mark.parametrize("kind", ["dropRate", "malformedRate", "disconnectRate"])
@pytest.mark.parametrize("provider", OF_AIMOCK)
@BOTH
async def test_aimocks_chaos_is_an_error_and_the_next_call_works(
    aimock: str, provider: str, kind: str, stream: bool
) -> None:
    async with forwarding(aimock, provider) as rollout:
        await chaos(aimock, **{kind: 1.0})
        try:
            for agent in TALKING:
                with pytest.raises(UpstreamError) as caught:
                    await ask(rollout, agent, "hello", stream=stream)
                assert caught.value.status >= 500
        finally:
            await chaos(aimock)
        assert (await ask(rollout, CHAT, "hello", stream=stream)).text == HELLO
    assert [turn.outcome for turn in rollout.trace] == ["refused"] * 4 + ["answered"]


@pytest.mark.parametrize("provider", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("agent", DIALECTS)
@BOTH
async def test_a_real_inference_server_answers_every_agent(
    transformers_serve: tuple[str, str], agent: str, provider: str, stream: bool
) -> None:
    url, model = transformers_serve
    async with forwarding(url, provider, model=model) as rollout:
        sampling = Sampling(max_output_tokens=12, temperature=0)
        told = await ask(rollout, agent, "say hello", stream=stream, sampling=sampling)
    (turn,) = rollout.trace
    assert told.text == turn.response.text != ""
    assert told.stop_reason == turn.response.stop_reason in ("max_tokens", "end")
    assert turn.response.usage is not None
    (step,) = steps(rollout.trace)
    assert (step.delivered, step.gaps) == (True, ("no_tokens",)), "it has no way to give them"


@pytest.mark.parametrize("agent", TALKING)
async def test_a_real_inference_servers_refusal_reaches_the_agent_and_a_field_can_be_taken_out(
    transformers_serve: tuple[str, str], agent: str
) -> None:
    """It refuses fields that it does not know, with 422 and a `detail`."""
    url, model = transformers_serve
    refused = {"model": model, "extra_body": {"unheard_of": 1}}
    async with forwarding(url, CHAT, **refused) as rollout:
        with pytest.raises(UpstreamError, match="unheard_of") as caught:
            await ask(rollout, agent, "say hello", stream=True)
    assert caught.value.status == 422
    assert rollout.trace[0].outcome == "refused"
