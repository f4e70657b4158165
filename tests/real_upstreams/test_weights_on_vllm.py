"""The weights of vLLM change while agents call it, in each mode of its own routes. By hand: `nox -s vllm`."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import trio

from triocept import Rollout, open_upstream, serve_endpoint
from triocept.types import PartDelta, Sampling, assemble

from .forwarding import CHAT, COMPLETIONS, MESSAGES, ask, base_of, requested
from .sent import Sent
from .test_vllm import calls_at_work

pytestmark = pytest.mark.vllm
ROLLOUTS = 32
TOKENS = 40
"""Length of each answer: its text is random, and ends at this bound."""
LONG = 4000
"""Length of an answer that is in progress for half a minute."""


@pytest.mark.parametrize("mode", ["keep", "wait", "abort"])
async def test_no_call_is_lost_or_made_twice_when_the_weights_of_vllm_change(
    vllm: str, sent: Sent, mode: Any
) -> None:
    rollouts: list[Rollout] = []
    told: list[list[str]] = [[] for _ in range(ROLLOUTS)]
    all_called, is_changed, is_long_begun = trio.Event(), trio.Event(), trio.Event()
    before, after = f"{mode}-1", f"{mode}-2"

    async def run(answers: list[str]) -> None:
        """Call until the weights have changed, and then once more; every second call is a stream."""
        async with endpoint.open_rollout(upstream) as rollout:
            rollouts.append(rollout)
            is_last = False
            while not is_last:
                is_last = is_changed.is_set()
                sampling = Sampling(max_output_tokens=TOKENS)
                said = await ask(rollout, CHAT, "hello", stream=bool(len(answers) % 2), sampling=sampling)
                assert said.stop_reason == "max_tokens"
                assert said.usage is not None
                assert said.usage.output_tokens == TOKENS
                answers.append(said.text)
                if all(told):
                    all_called.set()

    async def run_long() -> None:
        """Make a call that is in progress when the server is paused, however long the pause takes to begin."""
        async with endpoint.open_rollout(upstream) as rollout:
            rollouts.append(rollout)
            async with open_upstream(rollout.base_url(CHAT), dialect=CHAT, api_key=rollout.api_key) as client:
                request = requested(CHAT, "hello", stream=True, sampling=Sampling(max_output_tokens=LONG))
                async with client.open_response(request) as events:
                    is_long_begun.set()
                    told.append([assemble([event async for event in events]).text])

    with trio.fail_after(1200):
        async with (
            httpx2.AsyncClient(base_url=vllm, timeout=600) as trainer,
            open_upstream(base_of(vllm, CHAT), dialect=CHAT, model="scripted") as upstream,
            serve_endpoint() as endpoint,
            trio.open_nursery() as nursery,
        ):
            upstream.policy_version = before
            for answers in told:
                nursery.start_soon(run, answers)
            await all_called.wait()
            (
                await trainer.get("/openapi.json")
            ).raise_for_status()  # vLLM needs seconds to make it: the pause, none
            if mode == "keep":
                nursery.start_soon(run_long)
                await is_long_begun.wait()
            async with upstream.paused(mode) as pause:
                assert (pause.mode, pause.server) == (mode, "vllm")
                assert (await trainer.get("/is_paused")).json() == {"is_paused": True}
                answered = sum(map(len, told))
                for path, document in (
                    ("/collective_rpc", {"method": "reload_weights"}),
                    ("/update_weight_version", {"new_version": after}),
                ):
                    (await trainer.post(path, json=document)).raise_for_status()
                assert sum(map(len, told)) == answered
                is_changed.set()
            assert (await trainer.get("/is_paused")).json() == {"is_paused": False}
            assert upstream.policy_version == after
    turns = [turn for rollout in rollouts for turn in rollout.trace]
    drafts = [draft for turn in turns for draft in turn.drafts]
    assert len(turns) == sum(map(len, told))
    versions = {(turn.policy_start, turn.policy_end) for turn in turns}
    mixed = {(before, after)} if mode == "keep" else set()
    assert versions == {(before, before), (after, after), *mixed}
    assert {turn.outcome for turn in turns} == {"answered"}
    assert {draft.why for draft in drafts} == ({"abort"} if mode == "abort" else set())
    calls = [address for address, _ in sent.documents if address.startswith(f"{vllm}/v1/chat")]
    assert len(calls) == len(turns) + len(drafts)


@pytest.mark.parametrize(("provider", "agent"), [(CHAT, CHAT), (CHAT, MESSAGES), (COMPLETIONS, COMPLETIONS)])
@pytest.mark.parametrize("tokens", [None, "vllm"])
async def test_a_stream_that_another_program_aborts_reaches_its_agent_as_one_whole_answer(
    vllm: str, sent: Sent, provider: str, agent: str, tokens: Any
) -> None:
    """Its first call, and often the call for its rest, too: a pause may come before vLLM has begun this call."""
    count, probes = 8000, 0 if tokens is None else 1

    def calls() -> list[dict[str, Any]]:
        found = [
            each for address, each in sent.documents if address.startswith(vllm) and "completions" in address
        ]
        return found[probes:]

    request = requested(agent, "hello", stream=True, sampling=Sampling(max_output_tokens=count))
    options = {"dialect": provider, "model": "scripted", "tokens": tokens}
    with trio.fail_after(300):
        async with (
            httpx2.AsyncClient(base_url=vllm, timeout=200) as trainer,
            open_upstream(base_of(vllm, provider), **options) as upstream,
            serve_endpoint() as endpoint,
            endpoint.open_rollout(upstream) as rollout,
            open_upstream(rollout.base_url(agent), dialect=agent, api_key=rollout.api_key) as client,
            client.open_response(request) as events,
        ):
            read, pieces, pauses = [], 0, 0
            async for event in events:
                read.append(event)
                pieces += isinstance(event, PartDelta)
                if pieces >= 5 and pauses < 2 and len(calls()) == pauses + 1:
                    pauses += 1
                    while not await calls_at_work(vllm):
                        await trio.sleep(0.1)
                    (await trainer.post("/pause?mode=abort")).raise_for_status()
                    (await trainer.post("/resume")).raise_for_status()
    said, (turn,) = assemble(read), rollout.trace
    assert said.stop_reason == "max_tokens"
    assert said.usage is not None
    assert said.usage.output_tokens == count
    assert turn.response is not None
    assert (turn.outcome, turn.response.text) == ("answered", said.text)
    parts = [draft.response.text for draft in turn.drafts if draft.response is not None]
    assert parts, "the server was not aborted in the middle of its answer"
    assert said.text.startswith("".join(parts))
    left = [each.get("max_completion_tokens") or each["max_tokens"] for each in calls()]
    assert len(left) == 1 + len(parts)
    assert left[0] == count > left[1] >= left[-1]
    assert turn.tokens is None or turn.tokens.gaps == ()
