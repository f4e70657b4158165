"""The interface of engines, which run the workers of a fleet.

Calls and answers are bytes, made by the engine's `packing`. The fleet decides when to start, replace and end a worker;
the engine only runs it. The driver is the program that opened the fleet.
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
        reason: description of how the worker ended.
        worker_lives: True if the worker lives, and only the answer of the call was lost on its way.
    """

    def __init__(self, worker: str, reason: str, *, worker_lives: bool = False) -> None:
        super().__init__(f"{worker}: {reason}")
        self.worker = worker
        self.reason = reason
        self.worker_lives = worker_lives


class FleetWorker(ABC):
    """A running worker: a process, an actor, or a part of this program."""

    name: str
    """Name in messages, for example `worker 3 (pid 4711)`."""
    reason: str = ""
    """Reason of the worker's death, once it has died."""
    changed: Callable[[], None] = staticmethod(lambda: None)
    """Function that the worker calls when it is `alive` again after it was not. The fleet sets it."""

    @abstractmethod
    async def call(self, job: bytes) -> bytes:
        """Run a job to its end, concurrently with other jobs, and return its packed answer.

        Raises:
            WorkerLost: the worker died before the job ended, or was already dead.

        Cancellation: cancels the job in the worker and waits for its end, at most the fleet's grace. When exceeded:
        the worker is killed.
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
        """End the worker immediately, whatever it does, without a long wait. Its calls raise `WorkerLost`."""


class Engine(ABC):
    """The environment in which workers run."""

    packing: Packing
    """Encoding of values for the engine's workers."""
    workers: int
    """Initial number of a fleet's workers; known once the context `opened` is entered."""
    slots_per_worker: int
    """Maximum concurrent calls of one worker."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the resources that all workers need. The fleet enters it before the first worker starts.

        The fleet exits it after the last worker has ended. By default there are no such resources.
        """
        yield

    @abstractmethod
    def open_worker(self, name: str, setup: bytes, grace: float) -> AbstractAsyncContextManager[FleetWorker]:
        """Start one worker, and yield it when it is ready.

        Args:
            name: name of the worker in messages.
            setup: the packed function that opens the first argument of each call.
            grace: maximum seconds for the end of the worker, and for the end of a cancelled call.

        Raises:
            BaseException: the exception that `setup` raised, in its own class.
            WorkerLost: the worker died before it was ready.

        Closing: the worker closes its context and ends within `grace`, or is killed. A dead worker raises no error.
        """
