"""Runs a server that lives on asyncio."""

from __future__ import annotations

import asyncio
import sys

from ._commands import TICK, WATCH, Process, say
from ._shape import Gate, OpenServer


class AsyncioLoop:
    """What the commands ask of asyncio."""

    def __init__(self) -> None:
        self._ticking: asyncio.Task[None] | None = None

    def watch(self) -> None:
        WATCH.start()
        self._ticking = self._ticking or asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            WATCH.tick()

    async def at_once(self, open_server: OpenServer, gate: Gate, count: int) -> None:
        async def up_down() -> None:
            async with open_server(gate):
                pass

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(up_down())


def run(open_server: OpenServer, abilities: frozenset[str]) -> None:
    """Serve until stdin ends."""
    asyncio.run(_serve(open_server, abilities))


async def _serve(open_server: OpenServer, abilities: frozenset[str]) -> None:
    gate = Gate(asyncio.Event)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    async with open_server(gate) as server:
        process = Process(AsyncioLoop(), server, open_server, gate)
        say(process.hello(abilities))
        async for line in stdin:
            say(await process.obey(line.decode()))
