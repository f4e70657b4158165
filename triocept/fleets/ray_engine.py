"""Engine whose workers are actors of a Ray cluster, on all machines of the cluster.

Ray places the actors, transfers bytes, and reports the deaths of actors; the engine uses no other feature of Ray. The
fleet, not Ray, replaces a dead actor and repeats its calls, because the fleet must number the attempts of a task. Ray
does not number the calls that it repeats.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, final

import trio

from .._util.checks import check_count, check_mapping, check_number, check_str
from .engine import Engine, FleetWorker
from .packing import Packing, Pickled
from .ray_actor import make_actor_class
from .ray_cluster import check_installed, connected
from .ray_worker import open_actor

SPARE_CALLS = 8
"""Maximum concurrent calls of the actor methods `live`, `ping` and `end`, in addition to one call for each slot."""


@final
class RayEngine(Engine):
    """Engine whose workers are processes (actors) on the nodes of a Ray cluster. `pip install 'triocept[ray]'`.

    Args:
        address: address of the cluster, `host:port`; this program must run on one of the cluster's nodes. None means
            the same as for `ray.init`: the cluster to which this program is connected, or that `RAY_ADDRESS` names, or
            that `ray start` has started on this machine. If there is no such cluster, the engine starts a new cluster
            on this machine, which ends with the fleet. `"local"` always starts a new cluster on this machine; `"auto"`
            never does.
        workers: number of workers; None means as many workers as the free resources of the cluster allow.
        slots_per_worker: maximum concurrent calls of each worker.
        num_cpus: CPUs that Ray reserves for each worker. Agents run on the node of their worker, and share its CPUs.
        resources: other resources that Ray reserves for each worker, by Ray's names. For example, `{"big-disk": 1}`
            places workers on nodes that have the resource `big-disk`.
        hung_after: see `Processes`.

    A worker has the environment of its node, and imports the packages installed there. Entries of this program's
    `sys.path` that exist on the node are appended to the worker's `sys.path`. Functions, classes and tasks of
    `__main__` are sent by value. To use other features of Ray (`runtime_env`, a namespace), call `ray.init` before you
    open the fleet. Agents do not get the environment variables that Ray sets for itself.

    Raises:
        ImportError: Ray is not installed.
    """

    packing: Packing = Pickled()

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        slots_per_worker: int = 32,
        num_cpus: float = 1.0,
        resources: Mapping[str, float] | None = None,
        hung_after: float | None = 120.0,
    ) -> None:
        if address is not None:
            check_str("address", address)
        if workers is not None:
            check_count("workers", workers, least=1)
        check_count("slots_per_worker", slots_per_worker, least=1)
        check_number("num_cpus", num_cpus)
        if resources is not None:
            check_mapping("resources", resources)
        if hung_after is not None:
            check_number("hung_after", hung_after, positive=True)
        check_installed()
        self._address = address
        self._wanted = workers
        self.workers: int = workers or 1
        self.slots_per_worker = slots_per_worker
        self._num_cpus = num_cpus
        self._resources = dict(resources or {})
        self._hung_after = hung_after
        self._make: Any = None
        """Function that starts an actor. The value is None if no connection to the cluster is open."""

    def __repr__(self) -> str:
        where = "" if self._address is None else f"{self._address!r}, "
        return f"RayEngine({where}workers={self._wanted}, slots_per_worker={self.slots_per_worker})"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with connected(self._address):
            import ray

            actor = ray.remote(make_actor_class()).options(
                num_cpus=self._num_cpus,
                resources=self._resources,
                max_concurrency=2 * self.slots_per_worker + SPARE_CALLS,  # a cancellation is a call, too
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )
            self._make = partial(actor.remote)
            if self._wanted is None:
                free = await trio.to_thread.run_sync(ray.available_resources)
                needs = {"CPU": self._num_cpus, **self._resources}
                most = min(int(free.get(name, 0) // each) for name, each in needs.items() if each)
                self.workers = max(1, most)
            yield

    def open_worker(self, name: str, setup: bytes, grace: float) -> AbstractAsyncContextManager[FleetWorker]:
        return open_actor(self._make, name, setup, grace, self.packing, self._hung_after)
