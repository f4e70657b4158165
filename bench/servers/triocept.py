"""Ours, with all it does: parse, hand over, record, render."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import triocept

from ._on_trio import run
from ._shape import ANSWER, HEADER, HOLD, Gate, Route, increments


class TrioceptServer:
    """An endpoint, and the rollouts of the moment."""

    def __init__(self, endpoint: triocept.Endpoint, gate: Gate, stack: AsyncExitStack) -> None:
        self.port = endpoint.port
        self._endpoint = endpoint
        self._gate = gate
        self._stack = stack

    async def renew(self, count: int) -> list[Route]:
        await self._stack.aclose()
        return [await self._begin() for _ in range(count)]

    async def _begin(self) -> Route:
        rollout = await self._stack.enter_async_context(self._endpoint.open_rollout(self._answer))
        path = urlsplit(rollout.base_url("openai_chat")).path
        return Route(f"{path}/chat/completions", rollout.api_key)

    async def _answer(self, exchange: triocept.Exchange) -> None:
        if exchange.headers.get(HEADER) == HOLD:
            await self._gate.wait()
        if not exchange.request.stream:
            await exchange.respond(ANSWER)
            return
        async with exchange.open_stream() as stream:
            for _ in range(increments(exchange.headers)):
                await stream.send(ANSWER)


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[TrioceptServer]:
    """An endpoint."""
    async with triocept.serve_endpoint() as endpoint, AsyncExitStack() as stack:
        yield TrioceptServer(endpoint, gate, stack)


if __name__ == "__main__":
    run(
        open_server,
        frozenset({"answer", "stream", "hold", "endpoint", "stall", "dialects", "growth", "cores"}),
    )
