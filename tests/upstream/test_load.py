"""Many rollouts on one upstream, and many that are cancelled: nothing of them stays."""

import os
from contextlib import AsyncExitStack

import pytest
import trio

from triocept import open_upstream, serve_endpoint

from .conftest import Stage, base_of, begin_to_read
from .provider import CHAT, Answer, Asked, answers, chunk, head, serve_provider, wire_stream

pytestmark = pytest.mark.once

PIECES = wire_stream(CHAT)


class Server:
    """A provider that answers, or gets stuck in the middle of a stream."""

    def __init__(self) -> None:
        self.stuck = False

    async def __call__(self, asked: Asked, stream: trio.SocketStream) -> None:
        if not self.stuck:
            await answers(CHAT)(asked, stream)
            return
        await stream.send_all(head() + chunk(b"".join(PIECES[:3])))
        while await stream.receive_some():
            pass


async def read_all(stage: Stage) -> None:
    await begin_to_read(stage, CHAT, until=b"[DONE]")


async def read_and_leave(stage: Stage, number: int) -> None:
    await begin_to_read(stage, CHAT, until=b"Hel", seed=number)  # no two the same: none repeats another


async def test_five_hundred_rollouts_at_once_are_answered_through_one_upstream() -> None:
    provide: Answer = Server()
    async with serve_provider(provide) as provider:
        async with open_upstream(base_of(provider.url, CHAT), dialect=CHAT, concurrency=50) as upstream:
            async with serve_endpoint() as endpoint, AsyncExitStack() as stack:
                rollouts = [
                    await stack.enter_async_context(endpoint.open_rollout(upstream)) for _ in range(500)
                ]
                async with trio.open_nursery() as nursery:
                    for rollout in rollouts:
                        nursery.start_soon(read_all, Stage(provider, upstream, endpoint, rollout))
        assert provider.connections <= 50 + 500 // 10  # those that were just closing aside, one for each slot
    assert {turn.outcome for rollout in rollouts for turn in rollout.trace} == {"answered"}
    assert sum(len(rollout.trace) for rollout in rollouts) == 500


def size() -> tuple[int, int]:
    """How many descriptors and tasks there are."""
    return len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living


async def check_cancelled_many(rounds: int) -> None:
    """A hundred calls a round, each left in the middle of its stream."""
    server = Server()
    async with serve_provider(server) as provider:
        async with open_upstream(base_of(provider.url, CHAT), dialect=CHAT) as upstream:
            async with serve_endpoint() as endpoint:
                before = size()
                for _ in range(rounds):
                    server.stuck = True
                    async with endpoint.open_rollout(upstream) as rollout:
                        stage = Stage(provider, upstream, endpoint, rollout)
                        async with trio.open_nursery() as nursery:
                            for number in range(100):
                                nursery.start_soon(read_and_leave, stage, number)
                        with trio.fail_after(30):
                            while len(rollout.trace) < 100:
                                await trio.sleep(0.01)
                    assert [turn.outcome for turn in rollout.trace] == ["abandoned"] * 100
                    del rollout, stage
                    provider.asked.clear()
                    with trio.fail_after(30):
                        while provider.open or any(
                            now > then for now, then in zip(size(), before, strict=True)
                        ):
                            await trio.sleep(0.01)
                server.stuck = False
                async with endpoint.open_rollout(upstream) as rollout:
                    await read_all(Stage(provider, upstream, endpoint, rollout))
                assert rollout.trace[0].outcome == "answered"


async def test_calls_that_are_cancelled_in_mid_stream_leave_no_task_no_descriptor_and_no_slot() -> None:
    await check_cancelled_many(rounds=4)
