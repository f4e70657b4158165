"""Runs a server that lives on trio."""

from __future__ import annotations

import os

import trio

from ._commands import TICK, WATCH, Process, say
from ._shape import Gate, OpenServer


class TrioLoop:
    """What the commands ask of trio."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def watch(self) -> None:
        WATCH.start()
        self._nursery.start_soon(self._tick)

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            WATCH.tick()

    async def at_once(self, open_server: OpenServer, gate: Gate, count: int) -> None:
        async def up_down() -> None:
            async with open_server(gate):
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(up_down)


def run(open_server: OpenServer, abilities: frozenset[str]) -> None:
    """Serve until stdin ends."""
    trio.run(_serve, open_server, abilities)


async def _serve(open_server: OpenServer, abilities: frozenset[str]) -> None:
    gate = Gate(trio.Event)
    async with trio.open_nursery() as nursery, open_server(gate) as server:
        process = Process(TrioLoop(nursery), server, open_server, gate)
        say(process.hello(abilities))
        rest = b""
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            async for data in stdin:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    say(await process.obey(line.decode()))
        nursery.cancel_scope.cancel()
