"""Base classes of engines, which start the workers of a fleet, and of these workers.

Calls are sent to a worker, and their answers to the fleet, as bytes that the engine's `packing` encodes. The fleet
decides when to start, replace and end a worker; the engine then starts, replaces or ends it. The driver is the program
that opened the fleet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ..errors import TrioceptError
from .packing import Packing


class WorkerLost(TrioceptError):
    """A worker died while it ran a call, or was killed because it did not answer, or its answer could not arrive.

    Attributes:
        worker: the name of the worker.
        reason: description of how the worker died, or of why the answer did not arrive.
        worker_lives: True if the worker is still alive. Then only the answer of this call was lost.
    """

    def __init__(self, worker: str, reason: str, *, worker_lives: bool = False) -> None:
        super().__init__(f"{worker}: {reason}")
        self.worker = worker
        self.reason = reason
        self.worker_lives = worker_lives


class FleetWorker(ABC):
    """A running worker: a subprocess, a Ray actor, or a part of this program."""

    name: str
    """Name of the worker in errors and log lines, for example `worker 3 (pid 4711)`."""
    reason: str = ""
    """Reason of the worker's death; empty until the worker has died."""
    changed: Callable[[], None] = staticmethod(lambda: None)
    """Function that the worker calls when its property `alive` becomes True again. The fleet sets this attribute."""

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
        """False if the worker is known to be dead, or cannot be reached at the moment; otherwise True."""

    @abstractmethod
    async def wait_lost(self) -> None:
        """Wait until the worker is dead, because it died by itself or was killed."""

    @abstractmethod
    async def kill(self) -> None:
        """Kill the worker at once. Each call that runs in the worker then raises `WorkerLost`."""


class Engine(ABC):
    """Base class of engines, which start workers: as subprocesses, as Ray actors, or in this program."""

    packing: Packing
    """Encoding of the values that the fleet sends to the engine's workers, and of the values that the workers send
    back.
    """
    workers: int
    """Number of workers that a fleet starts when it opens. The number is known once the context `opened` is entered."""
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
            setup: the packed function that opens the worker's context. The context's value becomes the first argument
                of each call.
            grace: maximum seconds for the worker to close, or for a cancelled call to end.

        Raises:
            BaseException: the exception that `setup` raised.
            WorkerLost: the worker died before it was ready.

        Closing: the worker closes its context and ends. If this takes longer than `grace`, the worker is killed. If the
        worker is already dead, the exit of the context raises no error.
        """
