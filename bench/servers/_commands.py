"""The commands that a server's process obeys: one line each, answered with one JSON line.

renew N     new rollouts: their paths and keys
held        how many requests are held
release     answer them: when
watch       begin to watch the event loop
stall       how long it stood still at most since then, in seconds
updown N    bring up and take down N servers, one after the other: seconds for each
burst N     bring up and take down N servers at once: seconds for all, and the file descriptors before and after
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Protocol

from ._shape import Gate, OpenServer, Server

TICK = 0.0002
"""Seconds between two looks at the clock of the watch."""


class Loop(Protocol):
    """What the commands ask of an event loop."""

    def watch(self) -> None:
        """Begin a task that looks at the clock every `TICK` and tells `WATCH`."""

    async def at_once(self, open_server: OpenServer, gate: Gate, count: int) -> None:
        """Open and close so many servers, each in a task of its own."""


class Process:
    """A server and the commands that it obeys."""

    def __init__(self, loop: Loop, server: Server, open_server: OpenServer, gate: Gate) -> None:
        self._loop = loop
        self._server = server
        self._open = open_server
        self._gate = gate

    def hello(self, abilities: frozenset[str]) -> dict[str, Any]:
        """What is said first."""
        pid = getattr(self._server, "pid", os.getpid())  # a peer may be a program of its own
        return {"port": self._server.port, "pid": pid, "abilities": sorted(abilities)}

    async def obey(self, line: str) -> dict[str, Any]:
        """Do what the line says."""
        command, *words = line.split()
        match command, [int(word) for word in words]:
            case "renew", [count]:
                routes = await self._server.renew(count)
                return {"routes": [[route.path, route.key] for route in routes]}
            case "held", []:
                return {"held": self._gate.held}
            case "release", []:
                return {"released_at": self._gate.release()}
            case "watch", []:
                self._loop.watch()
                return {}
            case "stall", []:
                return {"stall": WATCH.longest()}
            case "updown", [count]:
                return {"times": [await self._up_down() for _ in range(count)]}
            case "burst", [count]:
                return await self._burst(count)
            case _:
                raise ValueError(f"no such command: {line}")

    async def _up_down(self) -> list[float]:
        start = time.perf_counter()
        async with self._open(self._gate):
            up = time.perf_counter()
        down = time.perf_counter()
        return [up - start, down - up]

    async def _burst(self, count: int) -> dict[str, Any]:
        before = _descriptors()
        start = time.perf_counter()
        await self._loop.at_once(self._open, self._gate, count)
        return {"seconds": time.perf_counter() - start, "leaked": _descriptors() - before}


class Watch:
    """The longest time between two ticks."""

    def __init__(self) -> None:
        self._last = 0.0
        self._longest = 0.0

    def start(self) -> None:
        """Forget what was."""
        self._last, self._longest = time.perf_counter(), 0.0

    def tick(self) -> None:
        """The event loop goes round."""
        now = time.perf_counter()
        self._longest = max(self._longest, now - self._last)
        self._last = now

    def longest(self) -> float:
        """In seconds, the tick itself taken off."""
        return max(0.0, self._longest - TICK)


WATCH = Watch()


def say(document: dict[str, Any]) -> None:
    """One line to whoever started this process."""
    print(json.dumps(document), flush=True)


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))
