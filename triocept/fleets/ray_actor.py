"""The actor that Ray starts on a node: it reports the node's versions, and then forwards each call to `ray_bridge`.

The actor's class is sent to the node by value. The class imports no triocept module before the driver (the program that
opened the fleet) has compared the versions. So even a node that has another version of triocept, or does not have
triocept, can report its versions.
"""

from __future__ import annotations

from typing import Any


def make_actor_class() -> type[Any]:
    """Return the class of the actor. Ray pickles the class by value, because it is defined in a function."""

    class TrioceptWorker:
        """Ray actor. Its methods are async, so that calls run concurrently; each method only waits for the `Bridge`."""

        _bridge: Any = None

        @staticmethod
        def facts() -> dict[str, str]:
            """Return the versions, pid and node of this process (an actor, or the program that opened the fleet)."""
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
            return self.facts()

        async def open(self, path: list[str], setup: bytes) -> bytes:
            from triocept.fleets.ray_bridge import Bridge

            self._bridge = Bridge()
            return bytes(await self._bridge.open(path, setup))

        async def call(self, number: int, job: bytes) -> bytes:
            return bytes(await self._bridge.call(number, job))

        async def cancel(self, number: int) -> None:
            self._bridge.cancel(number)

        async def wait_over(self, number: int) -> None:
            """Cancel the call `number`, and wait until it has ended.

            The driver uses this method if the call's answer can no longer reach the driver.
            """
            await self._bridge.wait_over(number)

        async def ping(self) -> None:
            await self._bridge.ping()

        async def live(self) -> None:
            """Never return.

            The driver waits for this method, so Ray raises an error in the driver when the actor dies.
            """
            import asyncio

            await asyncio.Event().wait()

        async def end(self) -> None:
            await self._bridge.end()

    return TrioceptWorker
