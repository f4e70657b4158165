"""The weights of llama.cpp's own server change while agents call it.

It has no route for that: while the upstream is paused, the server is ended, and another one is started in its place.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio

from triocept import Rollout, open_upstream, serve_endpoint

from .checks import SAID
from .forwarding import CHAT, ask, base_of
from .sent import Sent
from .servers import LlamaCpp
from .test_llama_cpp import slots

ROLLOUTS = 32
TEXTS = {"say": SAID, "done": "I have looked"}
"""What the model says, by its version."""


@pytest.mark.ci
@pytest.mark.parametrize("mode", ["keep", "wait"])
async def test_no_call_is_lost_or_made_twice_when_llama_cpp_is_replaced_during_a_pause(
    mortal: LlamaCpp, sent: Sent, mode: Any
) -> None:
    await trio.to_thread.run_sync(mortal.start, "say")
    rollouts: list[Rollout] = []
    told: list[list[str]] = [[] for _ in range(ROLLOUTS)]
    all_called, is_changed = trio.Event(), trio.Event()

    async def run(answers: list[str]) -> None:
        """Call until the weights have changed, and then once more; every second call is a stream."""
        async with endpoint.open_rollout(upstream) as rollout:
            rollouts.append(rollout)
            is_last = False
            while not is_last:
                is_last = is_changed.is_set()
                answers.append((await ask(rollout, CHAT, "hello", stream=bool(len(answers) % 2))).text)
                if all(told):
                    all_called.set()

    with trio.fail_after(120):
        async with (
            open_upstream(base_of(mortal.url, CHAT), dialect=CHAT, model="scripted") as upstream,
            serve_endpoint() as endpoint,
            trio.open_nursery() as nursery,
        ):
            upstream.policy_version = "say"
            for answers in told:
                nursery.start_soon(run, answers)
            await all_called.wait()
            async with upstream.paused(mode) as pause:
                assert (pause.mode, pause.server) == ("wait", None)
                assert not any(slot["is_processing"] for slot in await slots(mortal.url))
                answered = sum(map(len, told))
                await trio.to_thread.run_sync(mortal.start, "done")
                assert sum(map(len, told)) == answered
                upstream.policy_version = "done"
                is_changed.set()
    turns = [turn for rollout in rollouts for turn in rollout.trace]
    assert len(turns) == sum(map(len, told))
    for turn in turns:
        assert turn.outcome == "answered"
        assert turn.policy_start == turn.policy_end
        assert TEXTS[turn.policy_end] in turn.response.text
        assert turn.drafts == ()
    for answers in told:
        assert TEXTS["say"] in answers[0]
        assert TEXTS["done"] in answers[-1]
    assert calls_of(mortal, sent) == len(turns)


@pytest.mark.ci
async def test_calls_that_are_aborted_at_llama_cpp_are_answered_by_the_server_that_replaces_it(
    mortal: LlamaCpp, sent: Sent
) -> None:
    await trio.to_thread.run_sync(mortal.start, "babble")  # no answer ends
    rollouts: list[Rollout] = []

    async def run() -> None:
        async with endpoint.open_rollout(upstream) as rollout:
            rollouts.append(rollout)
            await ask(rollout, CHAT, "hello", stream=False)

    with trio.fail_after(120):
        async with (
            open_upstream(base_of(mortal.url, CHAT), dialect=CHAT, model="scripted") as upstream,
            serve_endpoint() as endpoint,
            trio.open_nursery() as nursery,
        ):
            upstream.policy_version = "babble"
            for _ in range(ROLLOUTS):
                nursery.start_soon(run)
            while calls_of(mortal, sent) < ROLLOUTS:
                await trio.sleep(0.05)
            async with upstream.paused("abort"):
                mortal.kill()
                await trio.to_thread.run_sync(mortal.start, "done")
                upstream.policy_version = "done"
    assert calls_of(mortal, sent) == 2 * ROLLOUTS
    for rollout in rollouts:
        (turn,) = rollout.trace
        assert (turn.policy_start, turn.policy_end) == ("done", "done")
        assert TEXTS["done"] in turn.response.text
        assert [draft.why for draft in turn.drafts] == ["abort"]


def calls_of(server: LlamaCpp, sent: Sent) -> int:
    """How many model calls were sent to a server."""
    return sum(address.startswith(f"{server.url}/v1/chat") for address, _ in sent.documents)
