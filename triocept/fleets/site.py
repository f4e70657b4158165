"""The worker's side, for every engine: the context that was opened once, and the calls that use it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf
from typing import Any, TypeAlias, final

import msgspec
import trio

from .._endpoint import serve_endpoint
from .._rollout.collecting import Collector, collect_traces
from .._trace.trace import Trace
from .._util.checks import described, named
from ..errors import StoreError
from .looking_after import happens
from .packing import Answer, ByReference, Failure, Job, Packing, Spent, failure_of
from .store.keys import json_of
from .store.recording import Kept, Recorders, RecordTo

OpenWorker: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
"""Context that a worker opens once for all its calls: `serve_endpoint`, a `partial` of it, or a context of yours."""


@asynccontextmanager
async def open_site(setup: bytes, packing: Packing) -> AsyncIterator[Site]:
    """Open the context of the calls."""
    open_worker: OpenWorker | None = packing.unpack(setup)
    async with (open_worker or serve_endpoint)() as value:
        yield Site(value, packing)


@final
class Site:
    """The opened context of a worker."""

    def __init__(self, value: object, packing: Packing) -> None:
        self._value = value
        self._packing = packing
        self._ends_program = (KeyboardInterrupt,) if isinstance(packing, ByReference) else ()
        self._recorders = Recorders()
        self._functions: dict[bytes, Callable[..., Awaitable[Any]]] = {}

    async def call(self, data: bytes, report: Callable[[bytes], None] | None = None) -> bytes:
        """Run a job, and return its packed answer.

        An exception of the function is an answer. Two are raised instead: a cancellation from outside, and a
        KeyboardInterrupt in the program's own process, which may be Ctrl-C.

        Args:
            data: the packed job.
            report: called with an early answer if the function has not ended within the job's grace after its timeout:
                the driver then kills this process. None: the process is the driver's own, so the function is waited
                for.
        """
        try:
            job: Job = self._packing.unpack(data)
        except (Exception, SystemExit) as exc:
            return self._packed(Answer(failure=failure_of(exc, self._packing)))
        over = trio.Event()
        if report is not None and job.timeout is not None:
            trio.lowlevel.spawn_system_task(self._watch, job, over, report)
        try:
            answer = await self._answer(job) if job.record is None else await self._kept(job, job.record)
        finally:
            over.set()
        return self._packed(answer)

    async def _watch(self, job: Job, over: trio.Event, report: Callable[[bytes], None]) -> None:
        """Report a call that shields itself from the end of its timeout."""
        assert job.timeout is not None
        if await happens(over, job.timeout) or await happens(over, job.grace):
            return
        error = trio.TooSlowError(
            f"the call took longer than the timeout of its map, {job.timeout:g} s, and did not end within the grace of "
            f"its fleet, {job.grace:g} s: its worker was killed"
        )
        kept = None if job.record is None else Kept()
        report(self._packed(Answer(failure=failure_of(error, self._packing), kept=kept, runs_on=True)))

    async def _answer(self, job: Job) -> Answer:
        with collect_traces() as traces:
            value, failure = await self._run(job)
        return Answer(value, failure, tuple(traces), scores_of(traces), spent=spent_in(traces))

    async def _kept(self, job: Job, to: RecordTo) -> Answer:
        """Run a job as `_answer` does, and record its rollouts in the store."""
        try:
            recorder = self._recorders.of(to)
        except (StoreError, OSError) as exc:
            return Answer(kept=Kept(problem=str(exc)))
        with collect_traces(Collector(recorder, {"fleet": to.task})) as traces:
            value, failure = await self._run(job)
        data = b""
        if failure is None:
            try:
                data = json_of(value, "what the function returned, which is to be kept in the store,")
            except TypeError as exc:
                value, failure = None, failure_of(exc, self._packing)
        kept = await recorder.keep(traces, data)
        return Answer(value, failure, scores=scores_of(traces), kept=kept, spent=spent_in(traces))

    async def _run(self, job: Job) -> tuple[Any, Failure | None]:
        try:
            function = self._function(job.function)
            told = {} if job.sample is None else {"sample": job.sample}
            made = function(self._value, job.task, attempt=job.attempt, **told)
            if not inspect.isawaitable(made):
                raise TypeError(
                    f"{named(function)} gave {described(made)}, which is not to be awaited: "
                    "is it an `async def` with no `yield` in it?"
                )
            with trio.move_on_after(inf if job.timeout is None else job.timeout):
                return await made, None
            raise trio.TooSlowError(f"the call took longer than the timeout of its map, {job.timeout:g} s")
        except BaseException as exc:
            if _holds(exc, trio.Cancelled, *self._ends_program):
                raise
            return None, failure_of(exc, self._packing)

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
            answer = msgspec.structs.replace(answer, value=None, failure=Failure(exc, ""))
            return self._packing.pack(answer, "an error")


def _holds(error: BaseException, *kinds: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kinds) is not None
    return isinstance(error, kinds)


def spent_in(traces: list[Trace]) -> Spent:
    """Return the sums over all traces."""
    usages = [trace.usage for trace in traces]
    return Spent(
        rollouts=len(traces),
        turns=sum(map(len, traces)),
        input_tokens=sum(usage.input_tokens or 0 for usage in usages),
        output_tokens=sum(usage.output_tokens or 0 for usage in usages),
    )


def scores_of(traces: list[Trace]) -> dict[str, float]:
    """Return the last value of each name."""
    return {name: score for trace in traces for name, score in trace.scores.items()}
