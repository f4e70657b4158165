"""The inside of a worker, whatever runs it: what was opened once, and the calls that are given it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, final

import trio

from .._endpoint import serve_endpoint
from .._rollout.collecting import collect_traces
from .packing import Answer, Failure, Job, Packing, failure_of

__all__ = ["OpenWorker", "Site", "open_site"]

OpenWorker: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
"""What a worker opens once, and gives to each call: `serve_endpoint`, a `partial` of it, or a context of yours."""


@asynccontextmanager
async def open_site(setup: bytes, packing: Packing) -> AsyncIterator[Site]:
    """Open what the calls are given."""
    open_worker: OpenWorker | None = packing.unpack(setup)
    async with (open_worker or serve_endpoint)() as value:
        yield Site(value, packing)


@final
class Site:
    """What was opened in a worker."""

    def __init__(self, value: object, packing: Packing) -> None:
        self._value = value
        self._packing = packing
        self._functions: dict[bytes, Callable[..., Awaitable[Any]]] = {}

    async def call(self, data: bytes) -> bytes:
        """Run a job; its answer, packed.

        Whatever its function raises is an answer, but for a cancellation from outside and an interrupt.
        """
        with collect_traces() as traces:
            value, failure = await self._run(data)
        return self._packed(Answer(value, failure, tuple(traces)))

    async def _run(self, data: bytes) -> tuple[Any, Failure | None]:
        try:
            job: Job = self._packing.unpack(data)
            function = self._function(job.function)
            told = {} if job.sample is None else {"sample": job.sample}
            return await function(self._value, job.task, attempt=job.attempt, **told), None
        except (Exception, SystemExit) as exc:
            return None, failure_of(exc, self._packing)
        except BaseExceptionGroup as group:
            if group.subgroup((trio.Cancelled, KeyboardInterrupt)) is not None:
                raise
            return None, failure_of(group, self._packing)

    def _function(self, packed: bytes) -> Callable[..., Awaitable[Any]]:
        function = self._functions.get(packed)
        if function is None:
            self._functions.clear()  # the functions of a fleet's maps: one at a time, mostly
            function = self._functions[packed] = self._packing.unpack(packed)
        return function

    def _packed(self, answer: Answer) -> bytes:
        try:
            return self._packing.pack(answer, "what the function returned")
        except TypeError as exc:
            failure = Failure(exc, "")
            return self._packing.pack(Answer(None, failure, answer.traces), "an error")
