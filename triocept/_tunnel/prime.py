"""A tunnel of Prime Intellect's service, with the package `prime-tunnel` (checked with its version 0.1.15).

Rules:

1. The package needs asyncio. So an asyncio loop runs in a worker thread, which ends when the tunnel ends.
2. The package starts and ends the program `frpc`. `frpc` is also registered with the watcher. If this program is
   killed, the watcher ends `frpc`.
3. The service limits the number of starts per minute, so triocept waits between two starts. After a refused connection,
   a time-out, a status of 5xx or "too many requests", the start is retried.
4. If `frpc` dies while the registration still exists, `frpc` is restarted, because the registration keeps the URL.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, final

import trio

from .._process.group import Ending, ProcessTree, birth
from .._process.watcher import Watcher, open_watcher
from .._util.checks import check_number
from .._util.contexts import protected_context
from .._util.failures import keeping, keeping_each, raise_all
from ..errors import TunnelError
from .asyncio_thread import AsyncioThread, open_asyncio
from .base import Scheme, Tunnel, lost

log = logging.getLogger("triocept.tunnel")

STARTS_PER_MINUTE = 512
"""Maximum starts per minute. This is the limit of the service for each API token, according to verifiers 0.3.1
(v1/interception/tunnel/prime.py)."""
TRIES = 4
FIRST_PAUSE = 1.0
"""Seconds before the second try to start. Each further pause is twice as long."""
LOOK_PAUSE = 0.1
"""Seconds between two checks of `frpc`, as in the package itself."""
FIRST_LOOK_PAUSE = 0.02
"""Seconds between two checks until `frpc` is connected. This is the maximum time for which a new `frpc` is not yet
registered with the watcher."""
REGISTER_PATIENCE = 2.0
"""Seconds for which a cancelled start waits for the service's answer. Without the answer, the registration could not be
deleted."""
STOP_TIMEOUT = 10.0
"""Maximum seconds to end `frpc` and to delete the registration. (Without this limit, the package might take 100 s.)"""
CLOSE_TIMEOUT = 1.0
"""Maximum seconds for which the output pipe of a dead `frpc` is read."""


@final
class PrimeTunnel(Tunnel):
    """A tunnel with a URL of Prime Intellect's service, for agents in any sandbox.

    Needs `pip install 'triocept[prime]'` and the service's key (`PRIME_API_KEY`, or `prime login`). At its first use,
    the package downloads the program `frpc`. Many endpoints, such as the endpoints of a pool, may share one
    `PrimeTunnel`. The object then makes a pause between the starts of the endpoints' tunnels.

    Args:
        name: name of the tunnel at the service.
        team_id: team that owns the tunnel. None means the team of the package's configuration.
        labels: labels by which the tunnel can be found at the service.
        timeout: maximum seconds until `frpc` is connected.
        starts_per_minute: maximum tunnels that this object starts per minute.

    Raises:
        ModuleNotFoundError: the package is not installed.
        TypeError, ValueError: `timeout` or `starts_per_minute` is not a number, or out of range.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        team_id: str | None = None,
        labels: tuple[str, ...] = (),
        timeout: float = 30.0,
        starts_per_minute: float = STARTS_PER_MINUTE,
    ) -> None:
        check_number("timeout", timeout)
        check_number("starts_per_minute", starts_per_minute, positive=True)
        try:
            self._package: Any = importlib.import_module("prime_tunnel")
        except ModuleNotFoundError as exc:
            text = "PrimeTunnel needs the package prime-tunnel: pip install 'triocept[prime]'"
            raise ModuleNotFoundError(text, name=exc.name) from exc
        self.name = name
        self.team_id = team_id
        self.labels: tuple[str, ...] = tuple(labels)
        self.timeout = timeout
        self._interval = 60 / starts_per_minute
        self._next_start = 0.0
        self._open: dict[str, _Client] = {}

    @protected_context
    async def open(
        self, port: int, *, host: str = "127.0.0.1", scheme: Scheme = "http", previous: str | None = None
    ) -> AsyncIterator[str]:
        """Register a tunnel, connect it, and yield the service's https URL. See `Tunnel.open`."""
        if scheme != "http":
            raise TunnelError(
                f"{self!r}: the service sends plain HTTP to the endpoint, because only the service's own URL is https: "
                "open the endpoint without tls="
            )
        body = trio.CancelScope()
        errors: list[BaseException] = []  # raised outside the nursery, which would wrap them
        async with open_watcher() as watcher, open_asyncio() as loop:
            client = _Client(loop, watcher, body)
            with keeping_each(errors):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.look)
                    with keeping(errors):
                        url = await self._start(client, port, host)
                        self._open[url] = client
                        with body:
                            yield url
                        if body.cancelled_caught:
                            raise lost(url, client.problem)
                    self._open = {known: other for known, other in self._open.items() if other is not client}
                    await client.stop()
        raise_all(errors)

    @trio.lowlevel.enable_ki_protection
    async def revive(self, url: str) -> bool:
        """Restart `frpc` with the same registration and URL. Return False if such a restart is impossible."""
        client = self._open.get(url)
        return client is not None and await client.restart()

    async def _start(self, client: _Client, port: int, host: str) -> str:
        pause = FIRST_PAUSE
        package = self._package
        final = (package.TunnelAuthError, package.TunnelLimitReachedError, package.BinaryDownloadError)
        make = partial(
            package.Tunnel,
            local_port=port,
            local_addr=host,
            name=self.name,
            team_id=self.team_id,
            labels=list(self.labels),
            connection_timeout=self.timeout,
        )
        for attempt in range(1, TRIES + 1):
            now = trio.current_time()
            turn = max(now, self._next_start)
            self._next_start = turn + self._interval
            await trio.sleep(turn - now)
            try:
                return await client.start(make)
            except Exception as exc:
                may_pass = isinstance(exc, package.TunnelError) and not isinstance(exc, final)
                if attempt == TRIES or not may_pass or "No API key" in str(exc):
                    raise TunnelError(f"{self!r}: {type(exc).__name__}: {exc}") from exc
                log.warning("%r: attempt %s of %s failed: %s", self, attempt, TRIES, exc)
            await trio.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def __repr__(self) -> str:
        return "PrimeTunnel()" if self.name is None else f"PrimeTunnel(name={self.name!r})"


@final
class _Client:
    """An open tunnel of the package `prime-tunnel`."""

    def __init__(self, loop: AsyncioThread, watcher: Watcher, body: trio.CancelScope) -> None:
        self.problem = ""
        """The reason why the tunnel has died; empty if it has not died."""
        self._loop = loop
        self._watcher = watcher
        self._body = body
        self._token = secrets.token_hex(16)
        self._frpc: ProcessTree | None = None
        self._processes: list[Any] = []
        """All `frpc` processes that the package has started. The processes are kept so that their pipes can be closed,
        which the package does not do."""
        self._tunnel: Any = None
        self._up = False
        self._restarting = trio.Lock()
        self._stopped = False
        self._looking = trio.CancelScope(shield=True)

    async def start(self, make: Callable[[], Any]) -> str:
        """Register the tunnel, connect it, and return its URL.

        Cancellation: also ends a start that is in progress.
        """
        await self._watcher.register(self._token)
        url = await self._loop.call(partial(self._register, make))
        self._up = True
        return url.rstrip("/")

    async def _register(self, make: Callable[[], Any]) -> str:
        """Start the package's tunnel. This coroutine runs on the asyncio loop.

        If this coroutine is cancelled before the service has answered, it still waits for the answer. Without the id in
        the answer, the registration could not be deleted.
        """
        self._tunnel = make()
        starting = asyncio.ensure_future(self._tunnel.start())
        try:
            return str(await asyncio.shield(starting))
        except asyncio.CancelledError:
            latest = time.monotonic() + REGISTER_PATIENCE
            while not starting.done() and self._tunnel.tunnel_id is None and time.monotonic() < latest:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.exception()  # marks the exception as retrieved
            raise
        finally:
            starting.cancel()

    @trio.lowlevel.enable_ki_protection
    async def look(self) -> None:
        """Until `stop` is called: register each new `frpc` process with the watcher, and restart `frpc` if it dies."""
        with self._looking:
            while True:
                self._register_frpc()
                dead = self._up and (self._tunnel.is_gone or not self._tunnel.is_running)
                if dead and not await self.restart():
                    self._body.cancel()
                    return
                await trio.sleep(LOOK_PAUSE if self._up else FIRST_LOOK_PAUSE)

    async def restart(self) -> bool:
        """Restart `frpc` with the same URL.

        Return False if the registration no longer exists, or if the restart fails.
        """
        before = self._frpc
        async with self._restarting:
            if self._stopped:
                return False
            if before is not self._frpc and self._tunnel.is_running:
                return True  # another task has restarted it meanwhile
            if self._tunnel.is_gone:

                async def recent_output() -> list[str]:
                    return list(self._tunnel.recent_output)

                # If frpc is dead, the package first waits for the end of its output.
                lines = await self._loop.call(recent_output)
                self.problem = "\n".join(
                    ["the service has ended the tunnel; the last output of frpc:", *lines]
                )
                return False
            try:
                await self._loop.call(self._tunnel.restart)
            except Exception as exc:
                self.problem = f"{type(exc).__name__}: {exc}"
                return False
            self._register_frpc()
            log.info("frpc was restarted: %s", self._tunnel.url)
            return True

    async def stop(self) -> None:
        """End `frpc`, and delete the registration. This takes a limited time, even when cancelled."""
        with trio.CancelScope(shield=True):
            self._stopped = True
            self._looking.cancel()
            self._register_frpc()
            with trio.move_on_after(STOP_TIMEOUT) as scope:
                async with self._restarting:  # a restart that is being cancelled may have started one more
                    if self._tunnel is not None:
                        self._register_frpc()
                        await self._loop.call(self._tunnel.stop)
            if scope.cancelled_caught:
                log.warning("the service did not delete the tunnel in time; the tunnel expires by itself")
            # A clean-up that was interrupted has left the configuration file of frpc, which contains keys.
            if getattr(self._tunnel, "_config_file", None) is not None:
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await self._loop.call(self._tunnel._cleanup)
            if self._frpc is not None:
                Ending([self._frpc]).send(signal.SIGKILL, await self._watcher.processes())
            pipes = [pipe for process in self._processes for pipe in (process.stdout, process.stderr)]
            with trio.move_on_after(CLOSE_TIMEOUT):
                await trio.to_thread.run_sync(
                    lambda: [pipe.close() for pipe in pipes], abandon_on_cancel=True
                )
        self._watcher.unregister_nowait(self._token)

    def _register_frpc(self) -> None:
        process = getattr(self._tunnel, "_process", None)  # the package has no public name for it
        if process is not None and (self._frpc is None or self._frpc.pid != process.pid):
            self._processes.append(process)
            self._frpc = ProcessTree(self._token, process.pid, birth(process.pid))
            self._watcher.started_nowait(self._frpc)
