"""Record the rollouts of all calls of a worker process in one file.

The rollouts of every endpoint in the process are recorded, even if the endpoint has its own recorder: see `collecting`
in the `_rollout` package. If a line cannot be written, the task has no stored result, even if the function catches the
error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from secrets import token_hex
from typing import ParamSpec, final

import msgspec
import trio

from ..._canonical.content import Json
from ..._trace.entries import Entry
from ..._trace.jsonl import JSONLRecorder, place_of
from ..._trace.trace import Trace
from ..._trace.turn import ServiceCall, Turn
from ..._util.contexts import protected_methods
from ..._util.disk import sync
from ...errors import StoreError
from .layout import TRACES, read_run
from .lines import TracePlace

P = ParamSpec("P")


class RecordTo(msgspec.Struct, frozen=True):
    """The store in which a task's rollouts are recorded, and the task's key. The driver sends both to the worker."""

    directory: str
    """Absolute path of the store; every worker must find the same directory under this path."""
    run: str
    """Id of the store, as in `RunFile.run`."""
    worker: str
    """The name of the worker."""
    task: dict[str, Json]
    """The task's key, sample and attempt, which each of its rollouts gets as the member `fleet` of its metadata."""
    fsync: bool


class Kept(msgspec.Struct, frozen=True):
    traces: tuple[TracePlace, ...] = ()
    value: bytes = b""
    """Return value of the function, as JSON."""
    problem: str | None = None
    """Reason why the call's traces are incomplete in the store; None if they are complete."""


@final
class Recorders:
    """The recorders of a worker process: one for each store in which its rollouts are recorded."""

    def __init__(self) -> None:
        self._recorders: dict[tuple[str, str], JSONLRecorder] = {}

    def of(self, to: RecordTo) -> CallRecorder:
        """Return the recorder for the rollouts of one call, which belongs to the store of `to`.

        Raise StoreError if this store does not exist on this machine, for example because the machine does not share
        the disk of the program that opened the fleet.
        """
        key = (to.directory, to.run)
        if (recorder := self._recorders.get(key)) is None:
            directory = Path(to.directory)
            if read_run(directory).run != to.run:
                raise StoreError(
                    "on this machine, the directory is not the store that the program with the fleet has opened",
                    path=to.directory,
                )
            unique = f"{file_start(to.worker)}{os.getpid()}-{token_hex(8)}.jsonl"  # unique across machines and time
            recorder = self._recorders[key] = JSONLRecorder(directory / TRACES / unique)
        return CallRecorder(recorder, fsync=to.fsync)


def file_start(worker: str) -> str:
    """Return the prefix of the names of a worker's trace files. No other worker of the fleet uses the same prefix."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", worker.partition(" (")[0]).strip("-")[:60] or "worker"
    return f"{name}-"


@protected_methods
@final
class CallRecorder:
    """Recorder for the rollouts of one call.

    It forwards all records to the recorder that the calls of the process share.
    """

    def __init__(self, recorder: JSONLRecorder, *, fsync: bool) -> None:
        self._recorder = recorder
        self._fsync = fsync
        self.problem: str | None = None
        """Reason why the call's traces are incomplete in the file; None if no write has failed."""

    async def aopen(self) -> None:
        await self._do(self._recorder.aopen)

    async def record_entry(self, entry: Entry) -> None:
        await self._do(self._recorder.record_entry, entry)

    async def record(self, turn: Turn) -> None:
        await self._do(self._recorder.record, turn)

    async def record_service(self, call: ServiceCall) -> None:
        await self._do(self._recorder.record_service, call)

    async def seal(self, trace: Trace) -> None:
        await self._do(self._recorder.seal, trace)

    async def aclose(self) -> None:
        """Do nothing, because other calls of the process still use the shared recorder."""

    async def _do(self, step: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await step(*args, **kwargs)
        except OSError as exc:
            self.problem = self.problem or str(exc)
            raise

    async def keep(self, traces: Iterable[Trace], value: bytes) -> Kept:
        """Return the places of a call's `traces` in the file. If the store has `fsync=True`, first sync the file."""
        path = self._recorder.path
        places = tuple(
            [
                TracePlace(
                    rollout=trace.rollout,
                    run=trace.run,
                    file=path.name,
                    begin=place.begin,
                    end=place.end,
                    ranges=place.ranges if len(place.ranges) > 1 else (),
                    digest=place.digest,
                )
                for trace in traces
                if (place := place_of(trace, self._recorder)) is not None
            ]
        )

        if self._fsync and places:
            try:
                await trio.to_thread.run_sync(sync, path)
                await trio.to_thread.run_sync(sync, path.parent)  # stores the file's name, too
            except OSError as exc:
                self.problem = self.problem or str(exc)
        return Kept(places, value, self.problem)
