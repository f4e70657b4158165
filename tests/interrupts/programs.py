"""The programs: each opens endpoints and rollouts, and makes its own calls or starts agents."""

import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from triocept import JSONLRecorder, Limits, Trace, Turn, open_upstream, serve_endpoint, serve_pool
from triocept._process import group
from triocept.traces import DirectoryRecorder, RecorderGroup

from .scene import Scene

Program: TypeAlias = Callable[[Scene], Awaitable[None]]

LEAVES = "sleep 700 & setsid sleep 700 & sleep 0.05; exit 0"
"""An agent that ends, and leaves two processes behind; one of them is out of its group."""
FORKS_LATE = "(sleep 0.0{}; sleep 700 & exit 0) & exit 0"
"""An agent whose background process forks when the agent has ended, and ends."""
LOOK = 0.004
"""Seconds by which a look at each young process is slowed: as on a machine with more processes, or more to do."""


class Waits:
    """A user's recorder, which waits."""

    async def record(self, turn: Turn) -> None:
        await trio.lowlevel.checkpoint()

    async def seal(self, trace: Trace) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def one_call(scene: Scene) -> None:
    async with serve_endpoint(recorder=JSONLRecorder(scene.file)) as endpoint:
        async with scene.opened(endpoint.open_rollout(scene.answer)) as rollout:
            await scene.call(rollout, "one")


async def many_calls(scene: Scene) -> None:
    recorder = RecorderGroup([JSONLRecorder(scene.file), Waits()])
    async with serve_endpoint(recorder=recorder, record_wire=True, record_increments=True) as endpoint:
        async with scene.opened(endpoint.open_rollout(scene.answer)) as rollout:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scene.call, rollout, "a")
                nursery.start_soon(scene.call, rollout, "b stream", "anthropic_messages")
                nursery.start_soon(scene.call, rollout, "c stream", "openai_responses")
                nursery.start_soon(scene.call, rollout, "d refuse")


async def a_fault(scene: Scene) -> None:
    async with serve_endpoint(recorder=JSONLRecorder(scene.file)) as endpoint:
        async with scene.opened(endpoint.open_rollout(scene.answer)) as rollout:
            async with trio.open_nursery() as nursery:
                for text in ("a fault", "b", "c fault"):
                    nursery.start_soon(scene.call, rollout, text)


async def services(scene: Scene) -> None:
    async def serve() -> None:
        await rollout.serve(scene.answer, concurrency=1)

    async with serve_endpoint(recorder=JSONLRecorder(scene.file)) as endpoint:
        async with scene.opened(endpoint.open_rollout()) as rollout, trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with trio.open_nursery() as calls:
                calls.start_soon(scene.call, rollout, "a")
                calls.start_soon(scene.call, rollout, "b stream", "anthropic_messages")
            nursery.cancel_scope.cancel()


async def children(scene: Scene) -> None:
    async def iterate() -> None:
        async for exchange in grandchild:
            await scene.answer(exchange)

    async with serve_endpoint(recorder=DirectoryRecorder(scene.folder / "traces")) as endpoint:
        limits = Limits(turns=9, seconds=60)
        async with scene.opened(endpoint.open_rollout(scene.answer, limits=limits)) as rollout:
            async with (
                scene.opened(rollout.open_child(scene.answer, concurrency=1)) as child,
                scene.opened(child.open_child()) as grandchild,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(iterate)
                async with trio.open_nursery() as calls:
                    calls.start_soon(scene.call, child, "a")
                    calls.start_soon(scene.call, child, "b stream")
                    calls.start_soon(scene.call, grandchild, "c")
                    calls.start_soon(scene.call, rollout, "d")
                await grandchild.stop("enough")
            await rollout.score("reward", 1.0)


async def agent(scene: Scene) -> None:
    async with serve_endpoint(recorder=JSONLRecorder(scene.file)) as endpoint:
        async with scene.opened(endpoint.open_rollout(scene.answer)) as rollout:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scene.call, rollout, "one")
                await rollout.run_agent(["sh", "-c", LEAVES], input="go", terminate_grace=0.3)


async def iterated_agent(scene: Scene) -> None:
    async with serve_endpoint(recorder=JSONLRecorder(scene.file)) as endpoint:
        async with scene.opened(endpoint.open_rollout()) as rollout, trio.open_nursery() as nursery:
            async with rollout.open_agent(["sh", "-c", LEAVES], terminate_grace=0.3) as agent:
                nursery.start_soon(scene.call, rollout, "one")
                async for exchange in agent:
                    await scene.answer(exchange)
            nursery.cancel_scope.cancel()


async def agents_that_fork_late(scene: Scene) -> None:
    look_at, since = group._look_at, group.birth(os.getpid()) or 0

    def slowly(pid: int) -> group.ProcessInfo | None:
        process = look_at(pid)
        if process is None or process.born < since:
            return process
        time.sleep(LOOK)
        return look_at(pid)

    group._look_at = slowly  # for the life of this process
    async with serve_endpoint() as endpoint, endpoint.open_rollout(scene.answer) as rollout:
        for pause in (20, 35, 50):
            await rollout.run_agent(["sh", "-c", FORKS_LATE.format(pause)])


async def upstream(scene: Scene) -> None:
    async with serve_endpoint() as provider, provider.open_rollout(scene.answer) as model:
        async with (
            open_upstream(
                model.base_url("openai_chat"), api_key=model.api_key, dialect="openai_chat", retries=1
            ) as forward,
            serve_endpoint(recorder=JSONLRecorder(scene.file)) as endpoint,
            scene.opened(endpoint.open_rollout(forward)) as rollout,
            trio.open_nursery() as nursery,
        ):
            for text in ("a", "b stream", "c refuse"):
                nursery.start_soon(scene.call, rollout, text)


async def paused_upstream(scene: Scene) -> None:
    async with serve_endpoint() as provider, provider.open_rollout(scene.answer) as model:
        async with (
            open_upstream(
                model.base_url("openai_chat"), api_key=model.api_key, dialect="openai_chat"
            ) as forward,
            serve_endpoint(recorder=JSONLRecorder(scene.file)) as endpoint,
            scene.opened(endpoint.open_rollout(forward)) as rollout,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(scene.call, rollout, "a stream")
            async with forward.paused("abort"):
                nursery.start_soon(scene.call, rollout, "b")
                await trio.lowlevel.checkpoint()


async def pool(scene: Scene) -> None:
    async def one(text: str) -> None:
        async with scene.opened(endpoints.open_rollout(scene.answer)) as rollout:
            await scene.call(rollout, text)

    recorder = JSONLRecorder(scene.file)
    async with serve_pool(per_endpoint=1, max_endpoints=2, recorder=recorder) as endpoints:
        async with trio.open_nursery() as nursery:
            for text in ("a", "b stream", "c"):
                nursery.start_soon(one, text)


PROGRAMS: dict[str, Program] = {
    program.__name__: program
    for program in (
        *(one_call, many_calls, a_fault, services, children),
        *(agent, iterated_agent, agents_that_fork_late, upstream, paused_upstream, pool),
    )
}
