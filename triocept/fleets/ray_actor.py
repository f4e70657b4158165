"""What Ray starts on a node: an actor that says what it runs on, and then hands each call on to `ray_bridge`.

Its class goes to the node by value, and imports nothing of ours before the driver has heard of its versions: a node
that has another triocept, or none, can say so.
"""

from __future__ import annotations

from typing import Any


def make_actor_class() -> type[Any]:
    """The class; made in a function, so that it is pickled by value."""

    class TrioceptWorker:
        """Async, so that its calls run beside each other; all they do is wait for the bridge."""

        _bridge: Any = None

        @staticmethod
        def facts() -> dict[str, str]:
            """Of this process, the driver's too: its versions, its number, its node."""
            import os
            import platform
            from importlib import metadata

            import ray

            def version(package: str) -> str:
                try:
                    return metadata.version(package)
                except metadata.PackageNotFoundError:
                    return "none"

            return {
                "Python": platform.python_version(),
                "ray": version("ray"),
                "triocept": version("triocept"),
                "pid": str(os.getpid()),
                "node": ray.util.get_node_ip_address(),
            }

        async def introduce(self) -> dict[str, str]:
            """Who it is: see `facts`."""
            return self.facts()

        async def open(self, path: list[str], setup: bytes) -> bytes:
            """Open what the calls get; the packed failure if that fails, else nothing."""
            from triocept.fleets.ray_bridge import Bridge

            self._bridge = Bridge()
            return bytes(await self._bridge.open(path, setup))

        async def call(self, number: int, job: bytes) -> bytes:
            """The packed answer of a job; nothing, if it was cancelled."""
            return bytes(await self._bridge.call(number, job))

        async def cancel(self, number: int) -> None:
            """Have a call end; who waits for it is told when it has."""
            self._bridge.cancel(number)

        async def wait_over(self, number: int) -> None:
            """Have a call end whose answer cannot arrive any more, and wait for that."""
            await self._bridge.wait_over(number)

        async def ping(self) -> None:
            """Return when trio's loop has run."""
            await self._bridge.ping()

        async def live(self) -> None:
            """Never return: who waits for this is told of the actor's death."""
            import asyncio

            await asyncio.Event().wait()

        async def end(self) -> None:
            """Close all in order."""
            await self._bridge.end()

    return TrioceptWorker
