"""A worker process: `python -c PROGRAM CONTROL DEATH`, where CONTROL and DEATH are the numbers of file descriptors.

Rules:

1. The process ends when its driver (the program that opened the fleet) ends. The socket CONTROL is then closed, so all
   calls are cancelled. If trio's loop is blocked, it cannot cancel the calls; then a thread kills the process. This
   thread reads the pipe DEATH, which is closed only by the end of the driver.
2. The driver handles a Ctrl-C in the terminal. The worker catches SIGINT instead of ignoring it, since agents would
   inherit an ignored signal.
3. The answer of a call is always sent whole; only the death of the process can cut it off.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator

import msgspec
import trio

from .._util.garbage import tune_gc
from .frames import Frame, FrameStream, Kind
from .packing import Pickled, failure_of
from .site import Site, open_site

DEATH_GRACE = 1.5
"""Maximum seconds, after the death of the program that opened the fleet, in which the worker must end its agents. When
exceeded: the worker is killed, and a watcher process ends the agents.
"""


class Setup(msgspec.Struct, frozen=True):
    """Payload of the first frame that the driver sends to a worker process."""

    path: list[str]
    """The driver's `sys.path`, so that the worker can import the same modules."""
    setup: bytes


def main() -> None:
    control, death = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (control, death):
        os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGINT, lambda *_: None)

    def die_with_driver() -> None:
        while os.read(death, 1):
            pass
        time.sleep(DEATH_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die_with_driver, daemon=True, name="driver's end").start()
    tune_gc()
    trio.run(_serve, socket.socket(fileno=control))


async def _serve(control: socket.socket) -> None:
    stream = FrameStream(trio.SocketStream(trio.socket.from_stdlib_socket(control)))
    frames = stream.frames()
    first = await anext(frames, None)
    if first is None:
        return
    packing = Pickled()
    try:
        setup: Setup = pickle.loads(first.data)
        sys.path[:] = [*setup.path, *(entry for entry in sys.path if entry not in setup.path)]
        async with open_site(setup.setup, packing) as site:
            stream.put(Kind.READY)
            await _run_calls(site, stream, frames)
    except Exception as exc:
        stream.put(Kind.FAILED, data=packing.pack(failure_of(exc, packing), "the error"))
        await stream.flush()
        sys.exit(1)


async def _run_calls(site: Site, stream: FrameStream, frames: AsyncIterator[Frame]) -> None:
    """Handle the frames that the driver sends until `stream` ends; then cancel all calls."""
    scopes: dict[int, trio.CancelScope] = {}

    async def call(number: int, job: bytes, scope: trio.CancelScope) -> None:
        def report(answer: bytes) -> None:
            if not scope.cancel_called:  # else the driver waits for the call's end
                stream.put(Kind.ANSWER, number, answer)

        answer = b""
        with scope:
            answer = await site.call(job, report)
        del scopes[number]
        stream.put(Kind.ANSWER, number, answer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write)
        async for frame in frames:
            match frame.kind:
                case Kind.CALL:
                    scopes[frame.call] = trio.CancelScope()
                    nursery.start_soon(call, frame.call, frame.data, scopes[frame.call])
                case Kind.CANCEL if frame.call in scopes:
                    scopes[frame.call].cancel()
                case Kind.PING:
                    stream.put(Kind.PONG)
                case _:
                    pass  # a call that has ended meanwhile
        nursery.cancel_scope.cancel()
