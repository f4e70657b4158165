"""Functions with which `Fleet.each` runs a function in each worker, and `Fleet.paused` pauses the workers' upstreams.

Rules:

1. The function that `Fleet.each` runs needs no slot. Otherwise it could not run during a pause, in which the calls of
   maps may occupy all slots while they wait.
2. If a worker dies, the results of `Fleet.each` contain no entry for it. The worker that replaces it runs the function,
   too.
3. While a fleet is paused, a newly started worker gets no calls. At the end of the pause, each living worker resumes
   its upstreams. A worker that replaced a dead worker also resumes its upstreams: it has paused nothing itself, but the
   dead worker may have paused the servers behind these upstreams.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

import trio

from .._upstream import Upstream
from .._upstream.pausing import RESUME_SECONDS, Pause, PauseMode
from .._upstream.upstream import pauses_of
from .._util.checks import described
from .._util.failures import keeping, raise_all, run_each
from .engine import FleetWorker, WorkerLost
from .packing import Job, Packing, chained, unpack_answer

T = TypeVar("T")

WorkerFunction: TypeAlias = Callable[[Any], Awaitable[T]]
"""`async (worker) -> T`: a function that `Fleet.each` runs once in each worker."""
FindUpstreams: TypeAlias = Callable[[Any], Upstream | Iterable[Upstream]]
"""`(worker) -> upstreams`: a function that returns one or more upstreams of a worker."""

TRIES = 3
"""Maximum number of times that a function is run in the same worker. The function is run again if the worker is alive,
but the answer did not arrive.
"""
END_SECONDS = RESUME_SECONDS + 30
"""Maximum seconds, at the end of a pause, until all workers have resumed their upstreams."""


async def call_worker(
    worker: FleetWorker, function: WorkerFunction[T], packing: Packing, results: dict[str, T]
) -> bool:
    """Run `function` in a worker, and store its return value in `results`. Return False if the worker died.

    Raises:
        BaseException: the exception that `function` raised.
    """
    packed = packing.pack(partial(_run, function), "the function", keep=True)
    for _ in range(TRIES):
        job = packing.pack(Job(function=packed, task=None, attempt=1), "the call")
        try:
            answer = unpack_answer(await worker.call(job), packing, has_store=False)
        except WorkerLost as lost:
            if not lost.worker_lives:
                return False
            continue
        if answer.failure is not None:
            error = chained(answer.failure.error, answer.failure.traceback)
            error.add_note(f"raised in {worker.name}")
            raise error
        results[worker.name] = answer.value
        return True
    raise WorkerLost(worker.name, f"its answers were lost {TRIES} times")


async def hold_calls(find: FindUpstreams | None, mode: PauseMode, worker: object) -> None:
    """Make a worker's upstreams hold back model calls. All workers do this before any worker pauses a server."""
    for upstream in _upstreams_of(worker, find):
        await pauses_of(upstream).hold_calls(mode)


async def pause_servers(find: FindUpstreams | None, worker: object) -> tuple[Pause, ...]:
    """Pause the inference servers of the worker's upstreams. Skip an upstream whose calls `hold_calls` did not hold."""
    pauses = [pauses_of(upstream) for upstream in _upstreams_of(worker, find)]
    return tuple([await each.pause_server() for each in pauses if each.is_paused])


async def update_versions(find: FindUpstreams | None, worker: object) -> None:
    """Read the servers' weight versions. All workers do this before any worker resumes a server that they share."""
    with suppress(Exception):  # a version may be missing
        for upstream in _upstreams_of(worker, find):
            await pauses_of(upstream).update_version()


async def end_pauses(find: FindUpstreams | None, worker: object) -> None:
    """Resume a worker's upstreams and their inference servers, even if another worker has paused these servers."""
    upstreams: tuple[Upstream, ...] = ()
    with suppress(Exception):  # `hold_calls` has raised it
        upstreams = _upstreams_of(worker, find)
    raise_all(await run_each(*[pauses_of(upstream).end for upstream in upstreams]))


async def finish(step: Callable[[], Awaitable[object]]) -> list[BaseException]:
    """Run `step`, a step that ends a pause, shielded from cancellation. Return the exceptions that it raised."""
    errors: list[BaseException] = []

    async def run() -> None:
        with keeping(errors), trio.move_on_after(END_SECONDS, shield=True) as scope:
            await step()
        if scope.cancelled_caught:
            errors.append(
                trio.TooSlowError(f"not every worker has resumed its upstreams within {END_SECONDS:g} s")
            )

    with keeping(errors):
        async with trio.open_nursery() as nursery:  # a Ctrl-C interrupts the main task only
            nursery.start_soon(run)
    return errors


async def _run(function: WorkerFunction[T], worker: object, task: None, *, attempt: int) -> T:
    return await function(worker)


def _upstreams_of(worker: object, find: FindUpstreams | None) -> tuple[Upstream, ...]:
    found = worker if find is None else find(worker)
    upstreams = tuple(found) if isinstance(found, Iterable) else (found,)
    if not all(isinstance(each, Upstream) for each in upstreams):
        hint = (
            "pass upstreams=, a function that returns them" if find is None else "upstreams= must return them"
        )
        raise TypeError(f"a fleet can pause only the upstreams of a worker, not {described(found)}: {hint}")
    return upstreams
