"""A worker that is a Ray actor. This code runs in the program that opened the fleet, and calls the actor.

Rules:

1. Each call ends with an answer or with `WorkerLost`, whatever error Ray raises for it.
2. An unreachable actor may be alive. The fleet sends it no calls until it answers again. If it does not answer within
   the fleet's `grace`, it is killed.
3. If the answer of a call can no longer arrive, the call is first ended in the actor. After that, the call counts as
   lost, and runs again in another worker.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, final

import trio

from .engine import FleetWorker, WorkerLost
from .looking_after import LOOKS, happens, looked_after
from .packing import Packing, import_path, raise_failure
from .ray_actor import make_actor_class
from .ray_cluster import Waited

log: logging.Logger = logging.getLogger("triocept.fleet")

START_TIMEOUT = 300.0
"""Maximum seconds until an actor is ready. This includes the minutes that an autoscaler may need to start a node."""
PLACEMENT_TIME = 15.0
"""Seconds for which a worker waits for free resources of the cluster before it logs a warning."""
KILL_TIMEOUT = 5.0
"""Maximum seconds, after a request to kill an actor, until Ray reports the actor's death."""
PAUSE = 0.5
"""Seconds between two attempts to call an actor that could not be reached."""


@asynccontextmanager
async def open_actor(
    make: Callable[[], Any], name: str, setup: bytes, grace: float, packing: Packing, hung_after: float | None
) -> AsyncIterator[FleetWorker]:
    """Start an actor by calling `make` in a thread. Yield the worker when it is ready; end it after the block.

    For the other arguments see `Engine.open_worker` and `RayEngine`.

    Raises:
        RuntimeError: the actor's node has other versions than this program.
        WorkerLost: the actor died before it was ready, or the cluster had no resources for it.
    """
    with trio.CancelScope(shield=True):  # else a started actor would have no owner
        worker = _Actor(name, await trio.to_thread.run_sync(make), grace)
    try:
        await worker.start(setup, packing)
        async with looked_after(partial(worker.serve, hung_after), worker.end):
            yield worker
    finally:
        await worker.kill()


@final
class _Actor(FleetWorker):
    def __init__(self, name: str, actor: Any, grace: float) -> None:
        import ray
        from ray.exceptions import ActorDiedError, RayError

        self.name = name
        self._ray = ray
        self._died, self._failed = ActorDiedError, RayError
        self._actor = actor
        self._grace = grace
        self._numbers = count(1)
        self._calls: set[Waited] = set()
        self._reached = True
        self._finding_out = trio.Lock()
        self._lost = trio.Event()
        self.reason = ""

    @property
    def alive(self) -> bool:
        return self._reached and not self._lost.is_set()

    def _ask(self, method: str, *args: object) -> Waited:
        return Waited(getattr(self._actor, method).remote(*args).future())

    async def start(self, setup: bytes, packing: Packing) -> None:
        """Wait until the actor has started, compare its versions with this program's, and let it open its context."""
        failure = b""
        with trio.move_on_after(START_TIMEOUT) as limit:
            try:
                answer = self._ask("introduce")
                with trio.move_on_after(PLACEMENT_TIME) as placement:
                    await answer.over.wait()
                if placement.cancelled_caught:
                    log.warning("%s waits for Ray to start it: %s", self.name, await self._free_cpus())
                facts: dict[str, str] = await answer.get()
                self.name = f"{self.name} (pid {facts['pid']} on {facts['node']})"
                own: dict[str, str] = make_actor_class().facts()
                if _compared(own) != _compared(facts):
                    raise RuntimeError(
                        f"{self.name} has {_listed(facts)}, but this program has {_listed(own)}: "
                        "install the same versions on every node"
                    )
                failure = await self._ask("open", import_path(), setup).get()
            except self._failed as exc:
                raise WorkerLost(self.name, f"it ended before it was ready: {_reason(exc)}") from exc
        if limit.cancelled_caught:
            why = await self._free_cpus()
            raise WorkerLost(self.name, f"it was not ready within {START_TIMEOUT:g} s: {why}")
        if failure:
            raise_failure(packing.unpack(failure))

    async def _free_cpus(self) -> str:
        free, total = [
            await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
            for ask in (self._ray.available_resources, self._ray.cluster_resources)
        ]
        return f"{free.get('CPU', 0):g} of the {total.get('CPU', 0):g} CPUs of the cluster are free"

    async def call(self, job: bytes) -> bytes:
        if self._lost.is_set():
            raise WorkerLost(self.name, self.reason)
        number = next(self._numbers)
        answer = self._ask("call", number, job)
        self._calls.add(answer)
        try:
            await answer.over.wait()
        except trio.Cancelled:
            self._ask("cancel", number)
            with trio.CancelScope(shield=True):
                if await self._has_ended(answer):
                    with suppress(WorkerLost):
                        await self._answer(number, answer)
            raise
        finally:
            self._calls.discard(answer)
        return await self._answer(number, answer)

    async def _answer(self, number: int, answer: Waited) -> bytes:
        """Return the answer of the call `number`, if it has arrived. Raise WorkerLost if it can no longer arrive."""
        if not answer.future.done():
            raise WorkerLost(self.name, self.reason)
        try:
            data: bytes = answer.future.result(0)
        except self._failed as exc:
            with trio.CancelScope(shield=True):
                await self._find_out(exc)
                if not self._lost.is_set() and await self._has_ended(over := self._ask("wait_over", number)):
                    try:
                        over.future.result(0)
                    except self._failed as failure:
                        await self._find_out(failure)
            if self._lost.is_set():
                raise WorkerLost(self.name, self.reason) from exc
            raise WorkerLost(
                self.name, f"its answer did not arrive: {_reason(exc)}", worker_lives=True
            ) from exc
        return data

    async def _has_ended(self, over: Waited) -> bool:
        """Wait until a cancelled call has ended, and return True.

        If the call does not end within the fleet's `grace`, kill the worker and return False.
        """
        if await happens(over.over, self._grace):
            return True
        await self._kill_hung(f"a call did not end within {self._grace:g} s of its cancellation")
        return False

    async def _find_out(self, error: BaseException) -> None:
        """Find out whether the actor died, after the call of one of its methods raised `error`.

        If the actor cannot be reached, wait until it answers again; kill it if it does not.
        """
        if isinstance(error, self._died):
            self._lose(_reason(error))
        async with self._finding_out:
            if self._lost.is_set():
                return
            self._reached = False
            with trio.move_on_after(self._grace):
                while not self._reached:
                    try:
                        await self._ask("ping").get()
                        self._reached = True
                    except self._died as exc:
                        self._lose(_reason(exc))
                        return
                    except self._failed:
                        await trio.sleep(PAUSE)
                self.changed()
                return
            self.reason = f"it could not be reached for {self._grace:g} s, so it was killed: {_reason(error)}"
            await self.kill()

    def _lose(self, why: str) -> None:
        self.reason = self.reason or why
        self._lost.set()
        for answer in self._calls:
            answer.over.set()

    async def serve(self, hung_after: float | None) -> None:
        async with trio.open_nursery() as nursery:
            if hung_after is not None:
                nursery.start_soon(self._watch, hung_after)
            while not self._lost.is_set():
                try:
                    await self._ask("live").get()
                except self._failed as exc:
                    await self._find_out(exc)
            nursery.cancel_scope.cancel()

    async def _watch(self, hung_after: float) -> None:
        while True:
            if not await happens(self._ask("ping").over, hung_after):
                await self._kill_hung(f"its event loop did not answer for {hung_after:g} s")
                return
            await trio.sleep(hung_after / LOOKS)

    async def _kill_hung(self, how: str) -> None:
        self.reason = self.reason or f"{how}, so the worker was killed"
        await self.kill()

    async def end(self) -> None:
        """Let the actor close its context and end. Wait for this at most the fleet's `grace`."""
        if not self._lost.is_set():
            with trio.move_on_after(self._grace):
                with suppress(self._failed):  # it is dead, or cannot be reached: it is killed
                    await self._ask("end").get()

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def kill(self) -> None:
        with trio.move_on_after(KILL_TIMEOUT, shield=True):
            with suppress(self._failed):
                await trio.to_thread.run_sync(self._ray.kill, self._actor, abandon_on_cancel=True)
                while True:
                    await self._ask("ping").get()
                    await trio.sleep(PAUSE / 10)
        self._lose("it was killed")
        await trio.lowlevel.checkpoint()


def _compared(facts: dict[str, str]) -> tuple[str, ...]:
    """Return the versions that must be equal on all nodes.

    Of Python's version, only `3.x` is compared, because pickled code works with any release of the same `3.x`.
    """
    return facts["Python"].rpartition(".")[0], facts["ray"], facts["triocept"]


def _listed(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {facts[name]}" for name in ("Python", "ray", "triocept"))


def _reason(error: BaseException) -> str:
    """Return the part of the error's text in which Ray explains the actor's death, without Ray's advice."""
    text = str(error)
    for mark in ("Worker exit detail: ", "The actor is dead because "):
        if mark in text:
            text = text.partition(mark)[2]
            break
    return text.strip().partition("\n")[0][:300] or type(error).__name__
