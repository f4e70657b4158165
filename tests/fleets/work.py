"""What the workers of these tests do: importable, as a user's functions are."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from triocept import Endpoint, Exchange, Refusal, serve_endpoint

AGENT = """
import json, os, sys, urllib.request
request = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions",
    json.dumps({"model": "m", "messages": [{"role": "user", "content": sys.argv[1]}]}).encode(),
    {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"},
)
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"""
"""A real agent process, of one call."""


async def answer(exchange: Exchange) -> None:
    await exchange.respond(f"heard {exchange.request.last.text}")


async def double(worker: object, task: int, *, attempt: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * task


async def run_agent(worker: Endpoint, task: str, *, attempt: int) -> str:
    async with worker.open_rollout(answer) as rollout:
        result = await rollout.run_agent([sys.executable, "-S", "-c", AGENT, task])
    return result.stdout_text.strip()


class Odd(Exception):
    """An error with more to it than its text."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"{number} is odd")
        self.number = number
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return Odd, (self.number, self.why)


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


async def raise_for(worker: object, task: object, *, attempt: int) -> str:
    match task:
        case "odd":
            raise Odd(3, "it is")
        case "refusal":
            raise Refusal(429, "slower", retry_after=2)
        case "unpicklable":
            raise Unpicklable("nobody sees my lock")
        case "exit":
            sys.exit("enough")
        case "group":
            raise ExceptionGroup("two", [ValueError("one"), Odd(5, "so")])
    return f"fine with {task}"


class Mute(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


class Bare(BaseException):
    """As `asyncio.CancelledError` is, and what `pytest.fail` raises: no `Exception`."""


class MadeInWorkersOnly:
    """A value that the driver cannot make again."""

    def __init__(self, driver: int) -> None:
        self.driver = driver

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_in_workers_only, (self.driver,)


def _made_in_workers_only(driver: int) -> MadeInWorkersOnly:
    if os.getpid() == driver:
        raise LookupError("there is no such thing here")
    return MadeInWorkersOnly(driver)


class Unshown:
    """A task whose `repr` fails."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


async def raise_mute(worker: object, task: object, *, attempt: int) -> None:
    raise Mute


async def raise_bare(worker: object, task: object, *, attempt: int) -> object:
    if task == "bare":
        raise Bare("so it is")
    return task


async def give_made_in_workers_only(worker: object, task: int, *, attempt: int) -> object:
    return MadeInWorkersOnly(task) if task else task


async def give_kind(worker: object, task: object, *, attempt: int) -> str:
    return type(task).__name__


async def give_lock(worker: object, task: object, *, attempt: int) -> object:
    return threading.Lock()


async def note_and_wait(worker: object, task: str, *, attempt: int) -> None:
    """Say that it runs, and that it does no more, by a file."""
    note = Path(task)
    note.write_text(str(os.getpid()))
    try:
        await trio.sleep_forever()
    finally:
        note.unlink()


async def hang(worker: object, task: str, *, attempt: int) -> str:
    """Block the loop, once: whoever comes again finds the file."""
    if task and not Path(task).exists():
        Path(task).write_text("")
        time.sleep(60)
    await trio.lowlevel.checkpoint()
    return f"attempt {attempt}"


async def shield(worker: object, task: tuple[str, int], *, attempt: int) -> int:
    """Shield tasks of numbers up to 0 from every cancellation for a minute; note each attempt in a file."""
    folder, number = task
    (Path(folder) / f"{number}-{attempt}-{os.getpid()}").write_text("")
    with trio.CancelScope(shield=number <= 0):
        await trio.sleep(60 if number <= 0 else 0.9)
    return number


async def die_once(worker: object, task: tuple[str, int], *, attempt: int) -> int:
    """Kill the worker in the first attempt at the task of number 3."""
    folder, number = task
    (Path(folder) / f"{number}-{attempt}-{os.getpid()}").write_text("")
    if number == 3 and attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    await trio.sleep(0.02)
    return number


async def die(worker: object, task: object, *, attempt: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def die_for(worker: object, task: object, *, attempt: int) -> object:
    """Kill the worker for one task, while others run."""
    await trio.sleep(0.1)
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    await trio.sleep(0.1)
    return task


async def raise_this(worker: object, task: type[BaseException] | None, *, attempt: int) -> None:
    await trio.sleep(0.1)
    if task is not None:
        raise task


async def raise_from(worker: object, task: object, *, attempt: int) -> None:
    raise ValueError("raised") from KeyError("cause")


async def fail_first(worker: object, task: object, *, attempt: int) -> int:
    if attempt < 3:
        raise ConnectionError("not yet")
    return attempt


@asynccontextmanager
async def open_bench() -> AsyncIterator[dict[str, Any]]:
    """What a worker opens once."""
    async with serve_endpoint() as endpoint:
        yield {"endpoint": endpoint, "pid": os.getpid(), "calls": []}


async def count_calls(worker: dict[str, Any], task: int, *, attempt: int) -> tuple[int, int]:
    await trio.lowlevel.checkpoint()
    worker["calls"].append(task)
    return worker["pid"], len(worker["calls"])


@asynccontextmanager
async def open_once(path: str) -> AsyncIterator[None]:
    """What can be opened once, by one worker."""
    Path(path).touch(exist_ok=False)
    yield


@asynccontextmanager
async def open_nothing() -> AsyncIterator[None]:
    raise Odd(7, "there is no such bench")
    yield


INHERITED = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "SigBlk": status["SigBlk"].strip(), "SigIgn": status["SigIgn"].strip(),
    "nice": os.nice(0), "environment": sorted(os.environ),
}))
"""


async def say_what_is_inherited(worker: Endpoint, task: object, *, attempt: int) -> dict[str, Any]:
    """What an agent of a worker has inherited: signals, the names of its variables, how nice it is."""
    async with worker.open_rollout(answer) as rollout:
        result = await rollout.run_agent(["sh", "-c", 'exec "$0" -S -c "$1"', sys.executable, INHERITED])
    said: dict[str, Any] = json.loads(result.stdout_text)
    return said


async def tell_sample(worker: object, task: str, *, attempt: int, sample: int) -> str:
    await trio.lowlevel.checkpoint()
    return f"{task}{sample}"


async def note_and_wait_but_first(worker: object, task: str, *, attempt: int, sample: int) -> None:
    """Sample 0 returns when each other one of three says that it runs."""
    folder = Path(task)
    if sample == 0:
        while len(list(folder.iterdir())) < 2:
            await trio.sleep(0.01)
    else:
        await note_and_wait(worker, str(folder / str(sample)), attempt=attempt)


async def fail_first_of_odd(worker: object, task: object, *, attempt: int, sample: int) -> int:
    await trio.lowlevel.checkpoint()
    if sample % 2 and attempt == 1:
        raise ConnectionError("not yet")
    return sample


async def die_but_first(worker: object, task: str, *, attempt: int, sample: int) -> int:
    """Kill the worker, but for sample 0, whose answer has left by then."""
    if sample:
        await trio.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return sample


@asynccontextmanager
async def open_never(path: str) -> AsyncIterator[None]:
    """What takes for ever; the file says in which process."""
    part = Path(f"{path}.{os.getpid()}")  # one for each of the workers that open at once
    part.write_text(str(os.getpid()))
    part.rename(path)
    await trio.sleep_forever()
    yield
