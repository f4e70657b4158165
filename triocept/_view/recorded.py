"""A server of the live view's page for recorded runs, or for the rollouts of a fleet. It serves nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .._rollout.registry import Registry
from .._rollout.rollout_state import RolloutState
from .._server.listen import dialable_host, open_listener
from .._server.serve import Server
from .._util.failures import keeping_each, raise_all
from .._util.limits import EndpointLimits
from ..dialects import known_dialects
from .app import ViewApp
from .source import Source


@asynccontextmanager
async def serve_source(source: Source, *, host: str, port: int) -> AsyncIterator[str]:
    """Serve the page while the block runs, and yield the page's URL, which contains the key.

    The server serves no model calls.

    Raises:
        OSError: the address cannot be bound.
    """
    errors: list[BaseException] = []
    listener = await open_listener(host, port)
    name = dialable_host(host, listener.socket)
    view = ViewApp(source, lambda: {host.lower(), name.lower()}, "http")
    registry: Registry[RolloutState] = Registry()
    server = Server(
        listener,
        registry=registry,
        dialects=known_dialects(()),
        endpoint_id="view",
        ssl_context=None,
        limits=EndpointLimits(),
        grace=0.1,
        max_body=1024,
        websocket=False,
        keep_alive=True,
        view=view,
    )
    with keeping_each(errors):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run, nursery)
            try:
                with server.body.scope:
                    shown = f"[{name}]" if ":" in name else name
                    yield f"http://{shown}:{listener.socket.getsockname()[1]}/view/#key={view.key}"
            finally:
                await server.stop()
    errors += [error for error in (server.body.fatal, server.body.crash) if error is not None]
    raise_all(errors)
