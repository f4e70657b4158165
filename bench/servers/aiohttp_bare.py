"""aiohttp alone: read the JSON, write JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from ._on_asyncio import run
from ._shape import COMPLETION, Gate, Route

_PATH = "/v1/chat/completions"


@dataclass
class BareServer:
    """A port."""

    port: int

    async def renew(self, count: int) -> list[Route]:
        return [Route(_PATH, "none")] * count


async def _answer(request: web.Request) -> web.Response:
    await request.json()
    return web.json_response(COMPLETION)


@asynccontextmanager
async def open_server(gate: Gate) -> AsyncIterator[BareServer]:
    """A server on a port of the kernel's choice."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post(_PATH, _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield BareServer(runner.addresses[0][1])
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    run(open_server, frozenset({"answer", "endpoint"}))
