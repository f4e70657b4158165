"""Agents of every dialect, and real ones, on vLLM: its exact ids, its refusals, and an agent that hangs up.

By hand: `nox -s vllm`. Its context has 40,960 tokens, and Claude Code asks for an answer of up to 64,000.
"""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from triocept import Message, Text
from triocept.dialects import DIALECTS
from triocept.traces import branches, drift, steps
from triocept.types import Sampling

from .agents import AGENTS, STREAMING, Executables, check_done, run_agent, upstream_of
from .checks import check_abandoned, check_answers, check_knows_an_overflow, check_runs_tools, check_tokens
from .forwarding import (
    CHAT,
    COMPLETIONS,
    MESSAGES,
    RESPONSES,
    TALKING,
    TOOLS,
    ask,
    first_pieces,
    forwarding,
    listening,
)
from .sent import Sent

pytestmark = pytest.mark.vllm
BOTH = pytest.mark.parametrize("stream", [False, True])  # none of them for `ci`
CONTEXT = 40_960
of_vllm = pytest.mark.parametrize("provider", [CHAT, RESPONSES, MESSAGES])


@of_vllm
@pytest.mark.parametrize("agent", DIALECTS)
@BOTH
async def test_agents_of_every_dialect_are_answered_by_vllm(
    vllm: str, agent: str, provider: str, stream: bool
) -> None:
    await check_answers(vllm, provider, agent, stream=stream)


@of_vllm
@pytest.mark.parametrize("agent", TALKING)
@BOTH
async def test_agents_of_every_dialect_run_their_tools_on_vllm(
    vllm: str, agent: str, provider: str, stream: bool
) -> None:
    await check_runs_tools(vllm, provider, agent, stream=stream)


@pytest.mark.parametrize("agent", TALKING)
@BOTH
@pytest.mark.parametrize("cap", [None, 5])
async def test_vllm_gives_the_tokens_of_a_call_with_tools_without_a_gap(
    vllm: str, agent: str, stream: bool, cap: int | None
) -> None:
    async with forwarding(vllm, CHAT, model="scripted", tokens="vllm") as rollout:
        sampling = Sampling(max_output_tokens=cap)
        await ask(rollout, agent, "look", stream=stream, tools=TOOLS, sampling=sampling)
    (turn,) = rollout.trace
    check_tokens(turn, cap)


@BOTH
async def test_vllm_gives_the_tokens_of_a_text_completion_without_a_gap(vllm: str, stream: bool) -> None:
    async with forwarding(vllm, COMPLETIONS, model="scripted", tokens="vllm") as rollout:
        sampling = Sampling(max_output_tokens=12)
        await ask(rollout, COMPLETIONS, "The quick brown", stream=stream, sampling=sampling)
    (turn,) = rollout.trace
    assert turn.tokens.gaps == ()
    assert len(turn.tokens.completion_ids) == 12


@of_vllm
@pytest.mark.parametrize("agent", DIALECTS)
async def test_an_agent_that_hangs_up_in_mid_stream_stops_vllm(vllm: str, agent: str, provider: str) -> None:
    """It would babble until its context is full, for more than a minute."""
    async with forwarding(vllm, provider, seconds=200, model="scripted") as rollout:
        async with listening(rollout, agent, "babble") as events:
            assert len([event async for event in first_pieces(events, 5)]) == 5
            assert await calls_at_work(vllm) == 1
        with trio.fail_after(60):
            while await calls_at_work(vllm):
                await trio.sleep(0.2)
    (turn,) = rollout.trace
    check_abandoned(turn)


async def calls_at_work(url: str) -> int:
    async with httpx2.AsyncClient(timeout=60) as client:
        told = (await client.get(f"{url}/metrics")).text
    (number,) = re.findall(r"^vllm:num_requests_running\{.*?\} ([\d.]+)$", told, re.MULTILINE)
    return int(float(number))


@of_vllm
@pytest.mark.parametrize("agent", DIALECTS)
@BOTH
async def test_a_prompt_that_is_too_long_for_vllm_is_an_error_that_the_agent_knows_as_such(
    vllm: str, agent: str, provider: str, stream: bool
) -> None:
    await check_knows_an_overflow(vllm, provider, agent, stream=stream, context=CONTEXT)


@pytest.mark.parametrize("provider", [CHAT, MESSAGES])
@pytest.mark.parametrize("agent", AGENTS)
async def test_a_real_agent_completes_a_tool_run_on_vllm(
    vllm: str, agent: str, provider: str, tmp_path: Path, executable_of: Executables
) -> None:
    async with upstream_of(vllm, provider) as upstream:
        ran = await run_agent(agent, upstream, tmp_path, executable_of(agent))
    check_done(ran)
    assert {turn.request.stream for turn in ran.trace} == {agent in STREAMING}


async def test_claude_code_asks_for_more_tokens_than_there_is_room_for_and_its_exact_ids_are_those_of_a_direct_call(
    vllm: str, tmp_path: Path, executable_of: Executables, sent: Sent
) -> None:
    async with upstream_of(vllm, CHAT, tokens="vllm") as upstream:
        probes = len(sent.documents)
        ran = await run_agent("claude_code", upstream, tmp_path, executable_of("claude_code"))
    check_done(ran)
    documents = [document for path, document in sent.documents[probes:] if path.endswith("/chat/completions")]
    asked = [document.get("max_completion_tokens") or document["max_tokens"] for document in documents]
    assert asked[0] > CONTEXT > asked[1]
    assert len(documents) > len(ran.trace) == 2, "it was refused, and asked again for less"
    for turn, document in zip(ran.trace, documents[-2:], strict=True):
        assert document["stream"] is turn.request.stream is True
        assert turn.request.tools
        assert turn.tokens.gaps == ()
        assert (turn.tokens.prompt_ids, turn.tokens.completion_ids) == await asked_directly(vllm, document)


async def asked_directly(url: str, document: dict[str, Any]) -> tuple[array[int], array[int]]:
    """The ids of a prompt and of its completion, by calls that have nothing to do with ours."""
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:

        async def post(path: str, **body: Any) -> Any:
            return (await client.post(path, json={"model": "scripted", **body})).raise_for_status().json()

        prompt = await post("/tokenize", messages=document["messages"], tools=document["tools"])
        said = await post("/v1/completions", prompt=prompt["tokens"], max_tokens=100, return_token_ids=True)
    return array("i", prompt["tokens"]), array("i", said["choices"][0]["token_ids"])


@BOTH
async def test_the_steps_of_a_run_on_vllm_say_how_each_answer_ended_and_its_template_drifts(
    vllm: str, stream: bool
) -> None:
    """By a token, which is the last one; by a stop string; at its bound. The prompt's start token is in no history."""
    async with forwarding(vllm, CHAT, model="scripted", tokens="vllm") as rollout:
        said = await ask(rollout, MESSAGES, "script", stream=stream, sampling=Sampling(temperature=0.5))
        history = (Message("user", (Text("script"),)), Message("assistant", said.content))
        again = (*history, Message("user", (Text("another script"),)))
        await ask(rollout, MESSAGES, *again, stream=stream, sampling=Sampling(stop=(" tiny",)))
        await ask(rollout, MESSAGES, "a third script", stream=stream, sampling=Sampling(max_output_tokens=3))
    ended, stopped, cut = steps(rollout.trace)
    assert [step.gaps for step in (ended, stopped, cut)] == [()] * 3
    assert [step.stop_included for step in (ended, stopped, cut)] == [True, False, False]
    assert (ended.temperature, cut.temperature, cut.unknown[-1]) == (0.5, None, "temperature_unknown")
    async with httpx2.AsyncClient(base_url=vllm, timeout=60) as client:
        end = await client.post("/tokenize", json={"model": "scripted", "prompt": "<|im_end|>"})
    assert ended.completion_ids[-1] == end.json()["tokens"][-1]
    (_, pair, _) = drift(rollout.trace).pairs
    assert (pair.name, pair.also, pair.prompt_length - pair.prompt_kept) == ("template_drift", None, 1)
    assert len(branches(rollout.trace)) == 3
