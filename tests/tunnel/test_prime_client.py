"""One tunnel of Prime's package, as far as it needs neither the package nor its service."""

import asyncio
import subprocess
from typing import Any

import trio
import trio.testing

from triocept._process.watcher import open_watcher
from triocept._tunnel.asyncio_thread import open_asyncio
from triocept._tunnel.prime import _Client


class Restarted:
    """A tunnel whose `frpc` has died, and whose restart starts one more though it is cancelled."""

    tunnel_id, url, recent_output, is_gone = "t", "https://a.invalid", (), False

    def __init__(self) -> None:
        self._process: Any = None
        self.restarting = asyncio.Event()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> str:
        return self.url

    async def restart(self) -> None:
        self.restarting.set()
        try:
            await asyncio.sleep(60)
        finally:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(["sleep", "60"], stdout=pipe, stderr=pipe)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


async def test_a_restart_that_is_cancelled_by_the_end_leaves_no_frpc() -> None:
    """It had started one when the end had already looked for those that there were."""
    async with open_watcher() as watcher, open_asyncio() as loop, trio.open_nursery() as nursery:
        client = _Client(loop, watcher, trio.CancelScope())
        await client.start(Restarted)
        nursery.start_soon(client.look)
        tunnel = client._tunnel
        await loop.call(tunnel.restarting.wait)
        revived: list[bool] = []

        async def revive() -> None:
            revived.append(await client.restart())

        nursery.start_soon(revive)  # for somebody who has found the URL dead, and waits for the other restart
        await trio.testing.wait_all_tasks_blocked()
        await client.stop()
        alive = tunnel.is_running
        if alive:
            tunnel._process.kill()
        tunnel._process.wait()
    assert not alive
    assert revived == [False]
