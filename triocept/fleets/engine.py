"""The interface of engines, which run the workers of a fleet.

Calls and answers are bytes, made by the engine's `packing`. A fleet starts, replaces and ends workers; an engine only
runs a single worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ..errors import TrioceptError
from .packing import Packing


class WorkerLost(TrioceptError):
    """A worker died, or was killed because it did not answer, while a call ran in it.

    Attributes:
        worker: the name of the worker.
        reason: how it ended.
        worker_lives: True if only the answer of the call was lost, on its way from a worker that lives.
    """

    def __init__(self, worker: str, reason: str, *, worker_lives: bool = False) -> None:
        super().__init__(f"{worker}: {reason}")
        self.worker = worker
        self.reason = reason
        self.worker_lives = worker_lives


class FleetWorker(ABC):
    """A running worker: a process, an actor, or a part of this program."""

    name: str
    """Name for readers: `process 3 (pid 4711)`."""
    reason: str = ""
    """Reason of the worker's death, once it has died."""
    changed: Callable[[], None] = staticmethod(lambda: None)
    """Called when the worker is `alive` again after it was not. The fleet sets it."""

    @abstractmethod
    async def call(self, job: bytes) -> bytes:
        """Run a job to its end, beside others, and return its packed answer.

        Raises:
            WorkerLost: the worker died meanwhile, or was dead.

        Cancellation: the job is cancelled in the worker, and its end waited for, at most the fleet's grace. When
        exceeded: the worker is killed.
        """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """True if the worker is believed to accept calls."""

    @abstractmethod
    async def wait_lost(self) -> None:
        """Wait until the worker has died by itself, or was killed."""

    @abstractmethod
    async def kill(self) -> None:
        """End the worker at once, whatever it does. Its calls end with `WorkerLost`. Never waits long."""


class Engine(ABC):
    """The environment in which workers run."""

    packing: Packing
    """Encoding of values for the engine's workers."""
    workers: int
    """Initial number of a fleet's workers; known when the engine is `opened`."""
    slots_per_worker: int
    """Maximum concurrent calls of one worker."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the resources that all workers need: entered before the first worker, left after the last.

        Default: nothing.
        """
        yield

    @abstractmethod
    def open_worker(self, name: str, setup: bytes, grace: float) -> AbstractAsyncContextManager[FleetWorker]:
        """Start one worker, and yield it when it is ready.

        Args:
            name: name for readers.
            setup: the packed function that opens the first argument of each call.
            grace: maximum seconds for the end of the worker, and for the end of a cancelled call.

        Raises:
            BaseException: the exception of `setup`, in its own class.
            WorkerLost: the worker died before it was ready.

        Closing: the worker ends in order, within `grace`, or is killed. Never raises because it is dead.
        """
