"""A turn says whether the agent waited for its answer when it settled."""

import httpx2
import pytest
import trio
import trio.testing

from tests.asking import bearer
from triocept import Exchange, Rollout, serve_endpoint
from triocept.traces import steps

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def ask(rollout: Rollout) -> httpx2.Response:
    """One call, on a connection of its own."""
    async with httpx2.AsyncClient(timeout=None) as client:
        url = rollout.base_url("openai_chat") + "/chat/completions"
        return await client.post(url, json=BODY, headers=bearer(rollout))


async def ask_and_hang_up(rollout: Rollout, caught: trio.Event) -> None:
    """One call, of which nobody waits for the answer."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, rollout)
        await caught.wait()
        nursery.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked(0.01)


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.caught, self.go = trio.Event(), trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.caught.set()
        await self.go.wait()
        await exchange.respond("hi")


async def test_an_agent_that_waits_attends_its_answer_and_so_does_the_program_that_asks() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("hi")

    with trio.fail_after(30):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(answer) as rollout:
            await ask(rollout)
            await rollout.ask("hello")
    assert [(turn.outcome, turn.attended) for turn in rollout.trace] == [("answered", True)] * 2


@pytest.mark.parametrize("on_hangup", ["finish", "cancel"])
async def test_an_answer_that_nobody_waits_for_any_more_is_not_attended(on_hangup: str) -> None:
    handler = Slow()
    with trio.fail_after(30):
        async with (
            serve_endpoint() as endpoint,
            endpoint.open_rollout(handler, on_hangup=on_hangup) as rollout,
        ):  # type: ignore[arg-type]
            await ask_and_hang_up(rollout, handler.caught)
            handler.go.set()
            while not len(rollout.trace):
                await trio.testing.wait_all_tasks_blocked(0.01)
    (turn,) = rollout.trace
    assert turn.outcome == ("answered" if on_hangup == "finish" else "abandoned")
    assert not turn.attended
    (step,) = steps(rollout.trace)
    assert "client_disconnected_before_end" in step.gaps
