"""What runs the workers of a fleet: the few things that an engine has to be able to do.

Bytes go in, bytes come out: how they are made is its `packing`. A fleet starts, replaces and ends workers; an engine
only knows how one is run.
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
    """One worker that runs: a process, an actor, or a part of this program."""

    name: str
    """For people: `process 3 (pid 4711)`."""
    reason: str = ""
    """What is known of its death, once it has died."""
    changed: Callable[[], None] = staticmethod(lambda: None)
    """Called when it is `alive` again that was not. The fleet sets it."""

    @abstractmethod
    async def call(self, job: bytes) -> bytes:
        """Run a job to its end, beside others; give its packed answer.

        Raises:
            WorkerLost: it died meanwhile, or was dead.

        Cancellation: the job is cancelled in the worker, and its end waited for, at most the fleet's grace. A worker
        that does not manage that hangs, and is killed.
        """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it can be asked, as far as is known."""

    @abstractmethod
    async def wait_lost(self) -> None:
        """Return when it has died by itself, or was killed."""

    @abstractmethod
    async def kill(self) -> None:
        """End it at once, whatever it does. Its calls end with `WorkerLost`. Never waits long."""


class Engine(ABC):
    """Where workers run."""

    @property
    @abstractmethod
    def packing(self) -> Packing:
        """How values get into its workers and back."""

    workers: int
    """How many a fleet begins with; known when it is `opened`."""
    slots_per_worker: int
    """How many calls one worker has at once."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """What all its workers need: entered before the first of them, left after the last. Here: nothing."""
        yield

    @abstractmethod
    def open_worker(self, name: str, setup: bytes, grace: float) -> AbstractAsyncContextManager[FleetWorker]:
        """Start one worker, and give it when it is ready.

        Args:
            name: for people.
            setup: the packed function that opens what the worker gives to each call.
            grace: seconds that it has for its end, and a cancelled call for its own.

        Raises:
            BaseException: what `setup` raised, in the class that it was raised in.
            WorkerLost: it died before it was ready.

        Closing: the worker ends in order, within `grace`, or is killed. Never raises because it is dead.
        """
