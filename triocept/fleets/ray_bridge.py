"""The code in a Ray actor: it runs trio's loop in a thread, and passes calls from Ray's asyncio loop to trio's loop.

Rules:

1. Ray's asyncio loop only waits. For each call, Ray's loop starts a task in trio's loop by `run_sync_soon`, and gets
   the result through a future.
2. If trio's loop ends unexpectedly, the process ends, too. The worker could run no calls without this loop, and the end
   of the process notifies the driver (the program that opened the fleet).
3. Ray changes environment variables and the niceness of its processes. Agents do not inherit these changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import final

import trio

from .._process.environment import keep_from_agents
from .packing import Pickled, failure_of
from .site import Site, open_site

log: logging.Logger = logging.getLogger("triocept.fleet")


@final
class Bridge:
    """Bridge from Ray's asyncio loop to a `Site`, which runs a worker's calls in trio's loop.

    Ray's loop calls the public methods.
    """

    def __init__(self) -> None:
        self._ready: Future[bytes] = _future()
        self._over: Future[None] = _future()
        self._calls: dict[int, _Call] = {}
        self._ending: trio.Event
        self._nursery: trio.Nursery
        self._site: Site
        self._token: trio.lowlevel.TrioToken

    async def open(self, path: list[str], setup: bytes) -> bytes:
        """Start trio, and open the worker's context, in which its calls run; return empty bytes, or a packed `Failure`.

        Entries of the driver's `sys.path` that exist on this node are appended to `sys.path`.
        """
        Thread(target=self._run, args=(path, setup), name="trio", daemon=True).start()
        return await asyncio.wrap_future(self._ready)

    async def call(self, number: int, job: bytes) -> bytes:
        """Run a job; return its packed answer, or empty bytes if it was cancelled."""
        answer: Future[bytes] = _future()

        async def run() -> None:
            call, data = self._call(number), b""

            def report(early: bytes) -> None:
                if not call.scope.cancel_called:  # else the driver waits for the call's end
                    answer.set_result(early)

            with call.scope:
                data = await self._site.call(job, report)
            del self._calls[number]
            call.over.set()
            if not answer.done():
                answer.set_result(data)

        self._soon(lambda: self._nursery.start_soon(run))
        return await asyncio.wrap_future(answer)

    def cancel(self, number: int) -> None:
        """Cancel the call `number`. If it has not arrived yet, cancel it when it arrives."""
        self._soon(lambda: self._call(number).scope.cancel())

    async def wait_over(self, number: int) -> None:
        """Cancel a call and wait for its end.

        Do not wait for an unknown call: it has ended already, or will never arrive.
        """
        over: Future[None] = _future()

        async def end() -> None:
            if (call := self._calls.get(number)) is not None:
                call.scope.cancel()
                await call.over.wait()
            over.set_result(None)

        self._soon(lambda: self._nursery.start_soon(end))
        await asyncio.wrap_future(over)

    async def ping(self) -> None:
        """Wait until trio's loop has run a function. This shows that the loop is not blocked."""
        turn: Future[None] = _future()
        self._soon(lambda: turn.set_result(None))
        await asyncio.wrap_future(turn)

    async def end(self) -> None:
        """Cancel all calls, close the worker's context, and end trio's loop."""
        self._soon(lambda: self._ending.set())
        await asyncio.wrap_future(self._over)

    def _soon(self, step: Callable[[], None]) -> None:
        self._token.run_sync_soon(step)

    def _run(self, path: list[str], setup: bytes) -> None:
        sys.path += [entry for entry in path if entry not in sys.path and os.path.exists(entry)]
        of_raylet: dict[str, str] = {}
        with contextlib.suppress(OSError), open(f"/proc/{os.getppid()}/environ", "rb") as file:
            entries = os.fsdecode(file.read()).split("\0")
            of_raylet = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        keep_from_agents(variables_of_ray(dict(os.environ), of_raylet))

        async def serve() -> None:
            async with open_site(setup, Pickled()) as self._site, trio.open_nursery() as self._nursery:
                self._ending = trio.Event()
                self._token = trio.lowlevel.current_trio_token()
                self._ready.set_result(b"")
                await self._ending.wait()
                self._nursery.cancel_scope.cancel()

        _set_niceness()
        try:
            trio.run(serve)
        except BaseException as exc:
            if self._ready.done():
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            packing = Pickled()
            self._ready.set_result(packing.pack(failure_of(exc, packing), "the error"))
        else:
            self._over.set_result(None)

    def _call(self, number: int) -> _Call:
        return self._calls.setdefault(number, _Call())


class _Call:
    """State of a call that is running, or that was cancelled before it arrived."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.over = trio.Event()


def _future() -> Future:  # type: ignore[type-arg]  # of the type that its caller annotates
    """Return a future that is not cancelled if an asyncio task that waits for it is cancelled."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


def variables_of_ray(mine: dict[str, str], of_raylet: dict[str, str]) -> Iterator[str]:
    """Yield the names of the environment variables that Ray itself has set in the process of a worker.

    Ray 2.60 sets RAY_*, SPT_NOENV (of setproctitle), PYTHONBREAKPOINT (to its debugger), and OMP_NUM_THREADS unless it
    was set before.
    """
    for name, value in mine.items():
        added = name in ("SPT_NOENV", "OMP_NUM_THREADS") and of_raylet.get(name) != value
        if added or name.startswith("RAY_") or (name == "PYTHONBREAKPOINT" and value.startswith("ray.")):
            yield name


def _set_niceness() -> None:
    """Set the niceness of this process to that of its parent, the raylet.

    Ray adds 15 to the niceness of its workers, and agents would inherit this niceness.
    """
    raylet = os.getpriority(os.PRIO_PROCESS, os.getppid())
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, raylet)
    if os.getpriority(os.PRIO_PROCESS, 0) > raylet:
        log.warning(
            "agents of this worker run with low priority: start the node of the worker with RAY_worker_niceness=0"
        )
