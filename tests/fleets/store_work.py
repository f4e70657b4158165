"""What the workers of the tests of stores do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.asking import ask, echo
from triocept import Endpoint, Exchange, JSONLRecorder, Pool, Rollout, Turn, serve_endpoint, serve_pool
from triocept.fleets import open_fleet


async def ignore(worker: object, task: object, *, attempt: int) -> None:
    await trio.lowlevel.checkpoint()


async def slow_double(worker: object, task: int, *, attempt: int) -> int:
    await trio.sleep(0.1)
    return 2 * task


async def two_calls(worker: Endpoint, task: object, *, attempt: int) -> None:
    async with worker.open_rollout(echo) as rollout:
        for number in range(2):
            await ask(rollout, f"{task} {number}")


async def two_calls_in_turns(worker: Endpoint, task: object, *, attempt: int) -> None:
    """A call, then the turn of others, and another one."""
    async with worker.open_rollout(echo) as rollout:
        for number in range(2):
            await ask(rollout, f"{task} {number}")
            await trio.sleep(0.2)


async def two_rollouts(worker: Endpoint, task: object, *, attempt: int) -> None:
    for name in ("one", "two"):
        async with worker.open_rollout(id=name):
            pass


async def score(worker: Endpoint, task: object, *, attempt: int) -> None:
    async with worker.open_rollout() as rollout:
        await rollout.score("reward", 0.25)
        await rollout.score("reward", 0.5)


async def note_in_rollout(worker: Endpoint, task: str, *, attempt: int) -> None:
    async with worker.open_rollout():
        Path(task).write_text("")
        await trio.sleep_forever()


async def die_once_in_rollout(worker: Endpoint, task: tuple[str, int], *, attempt: int) -> None:
    async with worker.open_rollout(echo) as rollout:
        await ask(rollout, str(task))
        if task[1] == 3 and attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)


@asynccontextmanager
async def open_recorded(path: Path) -> AsyncIterator[Endpoint]:
    async with serve_endpoint(recorder=JSONLRecorder(path)) as endpoint:
        yield endpoint


async def family(worker: Endpoint, task: object, *, attempt: int) -> None:
    """A rollout with two children, one of which has a recorder of its own."""
    own = JSONLRecorder(Path(os.environ["STORE_TEST"]) / "apart.jsonl")
    async with worker.open_rollout(echo, id="parent", metadata={"seed": 7}) as rollout:
        await ask(rollout, "first")
        async with rollout.open_child(echo, id="child") as child:
            await ask(child, "second")
        async with rollout.open_child(echo, id="apart", recorder=own) as child:
            await ask(child, "third")


class Failing:
    """A recorder."""

    async def record(self, turn: Turn) -> None:
        raise ConnectionError("the database is away")

    async def seal(self, trace: object) -> None: ...

    async def aclose(self) -> None: ...


@asynccontextmanager
async def open_failing() -> AsyncIterator[Endpoint]:
    async with serve_endpoint(recorder=Failing()) as endpoint:
        yield endpoint


class Answer(msgspec.Struct):
    text: str
    size: int


async def give_values(worker: object, task: str, *, attempt: int) -> object:
    await trio.lowlevel.checkpoint()
    values: dict[str, Any] = {
        "struct": Answer("t", 3),
        "path": Path("a/b"),
        "half": "\ud83d",
        "none": None,
        "nan": {"reward": float("nan")},
        "lock": [threading.Lock()],
    }
    return values[task]


async def give_much(worker: object, task: object, *, attempt: int) -> str:
    await trio.lowlevel.checkpoint()
    return 2000 * "x"


async def sample_of(worker: Endpoint, task: object, *, attempt: int, sample: int) -> str:
    async with worker.open_rollout():
        await trio.sleep(0.01 * sample)
    return f"{task} {sample}"


async def hold(exchange: Exchange) -> None:
    await trio.sleep_forever()


async def call_or_wait(worker: Endpoint, task: str, *, attempt: int) -> None:
    async with worker.open_rollout(echo if task == "a" else hold) as rollout:
        await ask(rollout, task)


async def score_later(worker: Endpoint, task: object, *, attempt: int) -> None:
    async with worker.open_rollout() as rollout:
        pass
    trio.lowlevel.spawn_system_task(_score, rollout)


async def _score(rollout: Rollout) -> None:
    await trio.sleep(0.02)
    await rollout.score("late", 1)


async def two_calls_come_what_may(worker: Endpoint, task: object, *, attempt: int) -> None:
    try:
        await two_calls(worker, task, attempt=attempt)
    except OSError:
        pass


async def nested(worker: Endpoint, task: object, *, attempt: int) -> None:
    """A fleet of its own."""
    async with worker.open_rollout(id="outer"):
        async with (
            open_fleet(worker=lambda: _as_it_is(worker)) as fleet,
            fleet.map(_inner, range(2)) as results,
        ):
            async for result in results:
                assert [trace.rollout for trace in result.traces] == [f"inner-{result.task}"]


@asynccontextmanager
async def _as_it_is(worker: Endpoint) -> AsyncIterator[Endpoint]:
    yield worker


async def _inner(worker: Endpoint, task: int, *, attempt: int) -> None:
    async with worker.open_rollout(id=f"inner-{task}"):
        pass


@asynccontextmanager
async def open_pool() -> AsyncIterator[Pool]:
    async with serve_pool([serve_endpoint, serve_endpoint]) as pool:
        yield pool
