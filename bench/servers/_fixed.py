"""The limit: a trio server that answers every request with the same bytes, once its parser has seen the end of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import trio

from ._shape import COMPLETION, Gate, OpenServer, Route

BODY = json.dumps(COMPLETION, separators=(",", ":")).encode()

Talk: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]
"""Serves one connection, to its end."""


@dataclass
class FixedServer:
    """A port."""

    port: int

    async def renew(self, count: int) -> list[Route]:
        return [Route("/v1/chat/completions", "none")] * count


def make_open_server(talk: Talk) -> OpenServer:
    """A server whose connections are served by `talk`."""

    @asynccontextmanager
    async def open_server(gate: Gate) -> AsyncIterator[FixedServer]:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, partial(_serve, talk), 0, host="127.0.0.1")
            listeners: list[trio.SocketListener] = await nursery.start(serve)
            yield FixedServer(listeners[0].socket.getsockname()[1])
            nursery.cancel_scope.cancel()

    return open_server


async def _serve(talk: Talk, stream: trio.SocketStream) -> None:
    try:
        await talk(stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
