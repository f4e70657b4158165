"""Engine whose workers are subprocesses of this program, on this machine.

Each worker is a Python process with its own trio loop. This program sends the calls over a socket. If this program
dies, the worker reads the end of a pipe, and ends, too. In measurements, two other designs were slower: calls sent
through the pipes of multiprocessing, and workers that run only one call at a time.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import final

import trio

from .._util.checks import check_count, check_number
from .engine import Engine, FleetWorker, WorkerLost
from .frames import Frame, FrameStream, Kind
from .looking_after import LOOKS, happens, looked_after
from .packing import Packing, Pickled, import_path, raise_failure
from .worker_process import Setup

START_TIMEOUT = 120.0
"""Maximum seconds until a worker is ready. The import of a trainer's packages from a cold network disk can take a
minute."""
PROGRAM = "from triocept.fleets.worker_process import main; main()"
EXIT_TIMEOUT = 1.0
"""Maximum seconds to wait for the end of a worker process after its socket was closed."""


@final
class Processes(Engine):
    """Engine whose workers are subprocesses; each can use one core for Python code.

    Args:
        workers: number of workers; None means one for each core that this program may use.
        slots_per_worker: maximum concurrent calls of each worker.
        hung_after: maximum seconds for which a worker's trio loop may be blocked, for example by a function that
            computes for long without a checkpoint. When exceeded: the worker is killed, and its calls run again in
            other workers. None means no limit.

    A worker gets this program's `sys.path`. Functions, classes and tasks of `__main__` are sent by value. The worker
    writes to this program's standard output and standard error. A Ctrl-C in the terminal is sent only
    to this program.
    """

    packing: Packing = Pickled()

    def __init__(
        self, workers: int | None = None, *, slots_per_worker: int = 32, hung_after: float | None = 120.0
    ) -> None:
        if workers is None:
            workers = (
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            )
        check_count("workers", workers, least=1)
        check_count("slots_per_worker", slots_per_worker, least=1)
        if hung_after is not None:
            check_number("hung_after", hung_after, positive=True)
        self.workers = workers
        self.slots_per_worker = slots_per_worker
        self._hung_after = hung_after

    def __repr__(self) -> str:
        return f"Processes({self.workers}, slots_per_worker={self.slots_per_worker})"

    @asynccontextmanager
    async def open_worker(self, name: str, setup: bytes, grace: float) -> AsyncIterator[FleetWorker]:
        own, other = socket.socketpair()
        death, alive = os.pipe()
        stream = FrameStream(trio.SocketStream(trio.socket.from_stdlib_socket(own)))
        try:
            try:
                with trio.CancelScope(shield=True):  # else a started process would have no owner
                    process = await trio.lowlevel.open_process(
                        [sys.executable, "-c", PROGRAM, str(other.fileno()), str(death)],
                        stdin=subprocess.DEVNULL,
                        env=dict(os.environ),  # without the variables that a C library (readline) has added
                        pass_fds=(other.fileno(), death),
                        process_group=0,
                    )
            finally:
                other.close()
                os.close(death)
            worker = _Process(f"{name} (pid {process.pid})", process, stream, grace)
            try:
                frames = stream.frames()
                await worker.set_up(frames, setup, self.packing)
                async with looked_after(partial(worker.serve, frames, self._hung_after), worker.end):
                    yield worker
            finally:
                process.kill()  # kills a process that was never ready; any other process has ended by now
                with trio.CancelScope(shield=True):
                    await process.wait()
        finally:
            os.close(alive)
            with trio.CancelScope(shield=True):
                await stream.aclose()


class _Call:
    def __init__(self) -> None:
        self.over = trio.Event()
        self.answer: bytes | None = None
        """Packed answer; None if the worker was lost."""


@final
class _Process(FleetWorker):
    def __init__(self, name: str, process: trio.Process, stream: FrameStream, grace: float) -> None:
        self.name = name
        self._process = process
        self._stream = stream
        self._grace = grace
        self._calls: dict[int, _Call] = {}
        self._numbers = count(1)
        self._lost = trio.Event()
        self.reason = ""

    @property
    def alive(self) -> bool:
        return not self._lost.is_set()

    async def set_up(self, frames: AsyncIterator[Frame], setup: bytes, packing: Packing) -> None:
        """Send `setup` to the worker, and wait until the worker has opened its context, in which its calls run."""
        self._stream.put(Kind.SETUP, data=pickle.dumps(Setup(import_path(), setup)))
        try:
            with trio.fail_after(START_TIMEOUT):
                await self._stream.flush()
                frame = await anext(frames, None)
        except trio.TooSlowError:
            raise WorkerLost(self.name, f"it was not ready within {START_TIMEOUT:g} s") from None
        if frame is None:
            raise WorkerLost(self.name, "it ended before it was ready; its stderr may contain the reason")
        if frame.kind is Kind.FAILED:
            raise_failure(packing.unpack(frame.data))

    async def call(self, job: bytes) -> bytes:
        number, call = next(self._numbers), _Call()
        self._calls[number] = call
        try:
            if self.alive:
                self._stream.put(Kind.CALL, number, job)
                await call.over.wait()
        except trio.Cancelled:
            self._stream.put(Kind.CANCEL, number)
            with trio.CancelScope(shield=True):
                if not await happens(call.over, self._grace):
                    self.reason = f"a call hung: it did not end within {self._grace:g} s of its cancellation"
                    await self.kill()
            raise
        finally:
            del self._calls[number]
        if call.answer is None:
            raise WorkerLost(self.name, self.reason)
        return call.answer

    async def serve(self, frames: AsyncIterator[Frame], hung_after: float | None) -> None:
        """Communicate with the worker until it has ended. Then make each unfinished call raise `WorkerLost`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stream.write)
                if hung_after is not None:
                    nursery.start_soon(self._watch, hung_after)
                async for frame in frames:
                    if frame.kind is Kind.ANSWER and (call := self._calls.get(frame.call)) is not None:
                        call.answer = frame.data
                        call.over.set()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                with trio.move_on_after(EXIT_TIMEOUT):
                    await self._process.wait()
                self._process.kill()  # a process that has closed its socket, and runs on, is useless
                code = await self._process.wait()
            how = f"ended with status {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
            self.reason = self.reason or f"it {how}"
            self._lost.set()
            for call in self._calls.values():
                call.over.set()

    async def _watch(self, hung_after: float) -> None:
        while True:
            self._stream.put(Kind.PING)
            if not await happens(self._stream.await_data(), hung_after):
                self.reason = f"its event loop did not answer for {hung_after:g} s, so it was killed"
                await self.kill()
                return
            await trio.sleep(hung_after / LOOKS)

    async def end(self) -> None:
        """Let the worker close its context and end. If it has not ended within the fleet's `grace`, kill it."""
        self._stream.put_eof()
        with trio.move_on_after(self._grace):
            await self._process.wait()
        self._process.kill()
        await self._process.wait()

    async def wait_lost(self) -> None:
        await self._lost.wait()

    async def kill(self) -> None:
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
        await trio.lowlevel.checkpoint()
