"""The interface of engines, which run the workers of a fleet.

Calls and answers are passed as bytes, which the engine's `packing` encodes. The fleet decides when to start, replace
and end a worker; the engine only carries this out. The driver is the program that opened the fleet.
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
        reason: description of how the worker died, or of why the answer did not arrive.
        worker_lives: True if the worker is alive: then only the answer of this call was lost.
    """

    def __init__(self, worker: str, reason: str, *, worker_lives: bool = False) -> None:
        super().__init__(f"{worker}: {reason}")
        self.worker = worker
        self.reason = reason
        self.worker_lives = worker_lives


class FleetWorker(ABC):
    """A running worker: a subprocess, a Ray actor, or a part of this program."""

    name: str
    """Name in messages, for example `worker 3 (pid 4711)`."""
    reason: str = ""
    """Reason of the worker's death, once it has died."""
    changed: Callable[[], None] = staticmethod(lambda: None)
    """Function that the worker calls when its `alive` has become True again. The fleet sets this attribute."""

    @abstractmethod
    async def call(self, job: bytes) -> bytes:
        """Run a job (one packed call of a function) concurrently with other jobs; return the packed answer.

        Raises:
            WorkerLost: the worker died before the job ended, or was already dead.

        Cancellation: cancels the job in the worker, and waits until the job has ended. If it has not ended within the
        fleet's `grace`, the worker is killed.
        """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """False if the worker is known to be dead or unreachable; otherwise True."""

    @abstractmethod
    async def wait_lost(self) -> None:
        """Wait until the worker is dead, whether it died by itself or was killed."""

    @abstractmethod
    async def kill(self) -> None:
        """Kill the worker at once. Each call that runs in the worker then raises `WorkerLost`."""


class Engine(ABC):
    """Base class of engines, which start workers: as subprocesses, as Ray actors, or in this program."""

    packing: Packing
    """Encoding of values for the engine's workers."""
    workers: int
    """Number of workers that a fleet starts when it opens. It is known once the context `opened` is entered."""
    slots_per_worker: int
    """Maximum concurrent calls of one worker."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open resources that all workers need, such as a connection to a cluster. The base class opens nothing.

        The fleet enters this context before the first worker starts, and exits it after the last worker has ended.
        """
        yield

    @abstractmethod
    def open_worker(self, name: str, setup: bytes, grace: float) -> AbstractAsyncContextManager[FleetWorker]:
        """Start one worker, and yield it when it is ready.

        Args:
            name: name of the worker in messages.
            setup: the packed function that opens the worker's context; the context's value is the first argument of
                each call.
            grace: maximum seconds for the worker to close, or for a cancelled call to end.

        Raises:
            BaseException: the exception that `setup` raised.
            WorkerLost: the worker died before it was ready.

        Closing: the worker closes its context and ends. If that takes longer than `grace`, the worker is killed. If the
        worker is already dead, closing raises no error.
        """
