"""The ancestor: the aiohttp server of `verifiers.legacy`. It neither parses nor records.

Its program takes request ids from a queue and gives back the wire's own document. The loop here answers at once, in
one task for each rollout, which is the least that can be done; its environments drop an intercept once it is
answered, and so does this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from verifiers.legacy.utils.interception_utils import InterceptionServer, deliver_response

from ._on_asyncio import run
from ._shape import ANSWER, COMPLETION, HEADER, HOLD, Gate, Route, chunk, increments


class LegacyServer:
    """The server, and the rollouts of the moment."""

    def __init__(self, server: InterceptionServer, gate: Gate) -> None:
        self.port = server.port
        self._server = server
        self._gate = gate
        self._rollouts: dict[str, asyncio.Task[None]] = {}
        self._begun = 0
        self._held: set[asyncio.Task[None]] = set()

    async def renew(self, count: int) -> list[Route]:
        self.end()
        return [self._begin() for _ in range(count)]

    def end(self) -> None:
        """End the rollouts."""
        for name, task in self._rollouts.items():
            task.cancel()
            self._server.unregister_rollout(name)
        self._rollouts.clear()

    def _begin(self) -> Route:
        self._begun += 1
        name = f"rollout-{self._begun}"
        queue = self._server.register_rollout(name)
        self._rollouts[name] = asyncio.create_task(self._answer_all(queue))
        return Route(f"/rollout/{name}/v1/chat/completions", self._server.secret)

    async def _answer_all(self, queue: asyncio.Queue[str]) -> None:
        while True:
            intercept = self._server.intercepts[await queue.get()]
            if intercept["headers"].get(HEADER) == HOLD:
                task = asyncio.create_task(self._answer_later(intercept))
                self._held.add(task)
                task.add_done_callback(self._held.discard)
            else:
                self._answer(intercept)

    async def _answer_later(self, intercept: dict[str, Any]) -> None:
        await self._gate.wait()
        self._answer(intercept)

    def _answer(self, intercept: dict[str, Any]) -> None:
        if (chunks := intercept["chunk_queue"]) is not None:
            for _ in range(increments(intercept["headers"])):
                chunks.put_nowait(chunk(ANSWER))
            chunks.put_nowait(chunk(None))
            chunks.put_nowait(None)
        deliver_response(intercept, COMPLETION)
        self._server.intercepts.pop(intercept["request_id"], None)


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[LegacyServer]:
    """A server on a port of the kernel's choice."""
    server = InterceptionServer(0)
    await server.start()
    legacy = LegacyServer(server, gate)
    try:
        yield legacy
    finally:
        legacy.end()
        await server.stop()


if __name__ == "__main__":
    run(open_server, frozenset({"answer", "stream", "hold", "endpoint", "stall"}))
