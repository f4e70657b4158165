"""The code that runs in each worker, whatever its engine: it opens the worker's context once, and runs calls in it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, final

import msgspec
import trio

from .._endpoint import serve_endpoint
from .._rollout.collecting import Collector, collect_traces
from .._util.checks import described, named
from .._util.limits import pass_moment
from ..errors import StoreError
from .looking_after import happens
from .packing import Answer, ByReference, Failure, Job, Packing, Spent, failure_of
from .store.keys import json_of
from .store.recording import Kept, Recorders

OpenWorker: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
"""Function that returns the context that a worker opens once for all its calls: `serve_endpoint`, or your function."""

Report: TypeAlias = Callable[[bytes], None] | None


@asynccontextmanager
async def open_site(setup: bytes, packing: Packing) -> AsyncIterator[Site]:
    open_worker: OpenWorker | None = packing.unpack(setup)
    async with (open_worker or serve_endpoint)() as value:
        yield Site(value, packing)


@final
class Site:
    def __init__(self, value: object, packing: Packing) -> None:
        self._value = value
        self._packing = packing
        self._raised: tuple[type[BaseException], ...] = (trio.Cancelled,)
        """Classes of exceptions: if the job's function raises one of these, `call` raises it, too. Any other exception
        becomes a part of the answer.
        """
        if isinstance(packing, ByReference):  # in the program's own process it may be Ctrl-C
            self._raised += (KeyboardInterrupt,)
        self._recorders = Recorders()
        self._overdue: set[int] = set()
        """Numbers of the slots whose calls are still running although their timeouts have passed."""
        self._functions: dict[bytes, Callable[..., Awaitable[Any]]] = {}

    async def call(self, data: bytes, report: Report = None) -> bytes:
        """Run a job (one packed call of a function), and return the packed answer.

        An exception of the function becomes part of the answer. Only two exceptions are raised: the cancellation of
        this method, and a KeyboardInterrupt if this code runs in the process of the program that opened the fleet.

        Args:
            data: the packed job.
            report: called with a packed answer if the function has not ended `job.grace` seconds after its timeout. The
                driver (the program that opened the fleet) then kills this process. None if this code runs in the
                driver's own process. Then `call` waits until the function ends.
        """
        try:
            job: Job = self._packing.unpack(data)
        except (Exception, SystemExit) as exc:
            return self._pack(Answer(failure=failure_of(exc, self._packing)))
        try:
            return self._pack(await self._run(job, report))
        finally:
            self._overdue.discard(job.slot)

    async def _watch(self, job: Job, limit: trio.CancelScope, over: trio.Event, report: Report) -> None:
        """Cancel a call after its timeout. If the call has not ended `job.grace` seconds later, call `report`."""
        assert job.timeout is not None
        if await happens(over, job.timeout):  # hardly includes time for which others block the loop
            return
        await pass_moment()
        if over.is_set():
            return
        limit.cancel()
        self._overdue.add(job.slot)
        if report is not None and not await happens(over, job.grace):
            report(self._pack(Answer(overdue=tuple(self._overdue))))

    async def _run(self, job: Job, report: Report) -> Answer:
        """Run a job, and return its answer with its value or exception, scores and traces.

        If the map has a store, the job's rollouts are recorded in the store. The answer then contains only the places
        of the traces in the store, not the traces themselves.
        """
        recorder = collector = None
        if job.record is not None:
            try:
                recorder = self._recorders.of(job.record)
            except (StoreError, OSError) as exc:
                return Answer(kept=Kept(problem=str(exc)))
            collector = Collector(recorder, {"fleet": job.record.task})
        with collect_traces(collector) as traces:
            value, failure = await self._outcome(job, report)
        usages = [trace.usage for trace in traces]
        spent = Spent(
            rollouts=len(traces),
            turns=sum(map(len, traces)),
            input_tokens=sum(usage.input_tokens or 0 for usage in usages),
            output_tokens=sum(usage.output_tokens or 0 for usage in usages),
        )
        scores = {name: score for trace in traces for name, score in trace.scores.items()}
        if recorder is None:
            return Answer(value, failure, tuple(traces), scores, spent=spent)
        data = b""
        if failure is None:
            try:
                data = json_of(value, "the function's return value, which the store keeps,")
            except TypeError as exc:
                value, failure = None, failure_of(exc, self._packing)
        return Answer(value, failure, scores=scores, kept=await recorder.keep(traces, data), spent=spent)

    async def _outcome(self, job: Job, report: Report) -> tuple[Any, Failure | None]:
        """Call the function of a job; return `(value, None)`, or `(None, failure)` if it raised an exception."""
        try:
            function = self._functions.get(job.function)
            if function is None:
                self._functions.clear()  # the functions of a fleet's maps: one at a time, mostly
                function = self._functions[job.function] = self._packing.unpack(job.function)
            sample = {} if job.sample is None else {"sample": job.sample}
            made = function(self._value, job.task, attempt=job.attempt, **sample)
            if not inspect.isawaitable(made):
                raise TypeError(
                    f"{named(function)} returned {described(made)}, which cannot be awaited: "
                    "it must be an `async def` without `yield`"
                )
            if job.timeout is None:
                return await made, None
            limit, over = trio.CancelScope(), trio.Event()
            trio.lowlevel.spawn_system_task(self._watch, job, limit, over, report)
            try:
                with limit:
                    return await made, None
            finally:
                over.set()
            raise trio.TooSlowError(f"the call took longer than the timeout of its map, {job.timeout:g} s")
        except BaseException as exc:
            if isinstance(exc, self._raised) or (
                isinstance(exc, BaseExceptionGroup) and exc.subgroup(self._raised) is not None
            ):
                raise
            return None, failure_of(exc, self._packing)

    def _pack(self, answer: Answer) -> bytes:
        try:
            return self._packing.pack(answer, "the function's return value")
        except TypeError as exc:
            answer = msgspec.structs.replace(answer, value=None, failure=Failure(exc, ""))
            return self._packing.pack(answer, "an error")
