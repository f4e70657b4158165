"""The driver's side of a store: its lock, the finished results, and new results."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast, final

import msgspec
import trio

from ..._canonical.content import Json
from ..._canonical.given import fit_metadata
from ..._util.checks import check_bool, check_type
from ..._util.contexts import shown_context
from ..._util.failures import text_of
from ..._util.unicode import mended_text
from ...errors import RemoteError, StoreError
from ..outcomes import Outcome, Result
from .keys import Key, TaskKey, key_of
from .layout import (
    DONE,
    LOST,
    TRACES,
    Lock,
    RunFile,
    differing,
    is_store,
    make,
    new_run,
    probe,
    read_run,
    write_run,
)
from .lines import DoneFile, DoneLine, ErrorLine, LostFile, LostLine, OutcomeWord
from .places import StoredTraces
from .reading import result_of, results_in
from .recording import Kept, RecordTo

LOOK_AHEAD = 100_000
"""Maximum tasks checked before the first runs, in some seconds. A `range` may have any number."""

T = TypeVar("T")
V = TypeVar("V")


@shown_context
async def open_store(
    directory: str | os.PathLike[str],
    *,
    settings: Mapping[str, Json] | None = None,
    retry_errors: bool = False,
    fsync: bool = False,
) -> AsyncIterator[Store]:
    """Open a store, which keeps the results of a fleet on disk: `async with open_store("runs/today") as store`.

    It is passed to a map: `fleet.map(solve, tasks, store=store)`. The same line begins a run and resumes it. The map
    runs the tasks that have no outcome in the store yet. Every rollout that they open is recorded in the store,
    whatever recorder its endpoint has.

    Args:
        directory: directory of this run alone; created with its parents if it does not exist. For workers on several
            machines: on a disk that they share, under the same path.
        settings: settings that distinguish this run from others: the model, the prompt's version. Kept in the store; a
            later call with other settings raises.
        retry_errors: True runs tasks again whose outcome is an error. The new outcome then counts.
        fsync: True forces a result and its traces to the disk before it is delivered. If False, a result survives the
            program's SIGKILL, but a power cut may lose the last results: `triocept check` reports it.

    Raises:
        StoreError: the directory is no store, or of other settings; a newer triocept has written it; another driver has
            it; a line of it is damaged. The text names the place.
        OSError: the store cannot be read or written, or its disk is full.

    Closing: releases the lock for other drivers. The store must be open for as long as a map runs with it.
    """
    check_type("directory", directory, (str, os.PathLike), "a path")
    check_bool("retry_errors", retry_errors)
    check_bool("fsync", fsync)
    await trio.lowlevel.checkpoint()
    store = _State(
        Path(directory), fit_metadata(settings, "settings"), retry_errors=retry_errors, fsync=fsync
    )
    try:
        yield Store(store)
    finally:
        store.close()


@final
class Store:
    """A store that this driver has locked. Made by `open_store` only."""

    def __init__(self, state: _State) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<Store {os.fspath(self.directory)!r}: {self.done} results>"

    @property
    def done(self) -> int:
        """Number of results in the store."""
        return len(self._state.done.index)

    @property
    def directory(self) -> Path:
        """Absolute path of the store."""
        return self._state.directory

    @property
    def settings(self) -> Mapping[str, Json]:
        """Settings of the store's run."""
        return MappingProxyType(self._state.run.settings)

    def results(self) -> Iterator[Result[Json, Json]]:
        """Return the finished results, also of earlier drivers, in the order in which they were finished.

        See `read_results`.
        """
        return results_in(self.directory)


@final
class MapStore:
    """The store of one map. Made by `map_store` only."""

    def __init__(self, state: _State, own_key: TaskKey | None) -> None:
        self._state = state
        self._own_key = own_key
        self._numbers: dict[str, int] = {}
        """Indexes of the tasks that came, by key."""

    def open(self) -> None:
        """Mark the store as used by a running map; raise StoreError if another map runs with it, or it was closed."""
        self._state.begin()

    def task(self, number: int, task: object) -> TaskStore:
        """Return the store's entry of a task; raise StoreError if another task of the map has the same key."""
        key = key_of(task, f"task {number}", self._own_key)
        if (first := self._numbers.setdefault(key.key, number)) != number:
            raise StoreError(
                f"{key.place} has the same key as task {first}: {key.key!r}; a task is known by its key "
                "(the number 1 and the text '1' are one key)"
            )
        return TaskStore(self._state, key)

    def close(self) -> None:
        self._state.has_map = False


@final
class TaskStore:
    """The store's entry of a task. Made by `MapStore` only."""

    def __init__(self, state: _State, key: Key) -> None:
        self._state = state
        self._key = key

    def is_done(self, sample: int) -> bool:
        """Return True if the sample has its outcome, and is not to be run again.

        Raise StoreError if the outcome under this key is of another task.
        """
        key = self._key
        known = self._state.done.index.get((key.key, sample))
        if known is not None and None not in (known.digest, key.digest) and known.digest != key.digest:
            raise StoreError(
                f"task {key.key!r} ({key.place}) differs from the task that is stored under this id: give it a new id, "
                "or pass fleet.map(key=…) to compare keys only",
                path=str(self._state.directory),
            )
        return known is not None and not (known.is_error and self._state.retry_errors)

    def was_lost(self, size: int) -> bool:
        """Return True if one of the samples was lost in an earlier run, or in this one."""
        return any((self._key.key, sample) in self._state.lost.keys for sample in range(size))

    def stored(self, task: T, sample: int) -> Result[T, Any]:
        """Return the stored result of a sample: its value from JSON, its error as a `RemoteError`."""
        result = result_of(self._state.directory, self._state.done.read(self._key.key, sample))
        return cast(Result[T, Any], msgspec.structs.replace(result, task=task))

    def record_to(self, sample: int, attempt: int, worker: str) -> RecordTo:
        state = self._state
        task: dict[str, Json] = {"task": self._key.key, "sample": sample, "attempt": attempt}
        return RecordTo(str(state.directory), state.run.run, worker, task, state.fsync)

    @trio.lowlevel.enable_ki_protection
    def kept(self, result: Result[T, V], kept: Kept | None) -> Result[T, V]:
        """Store a result, which is done from now on, and return it as the reader of the map gets it.

        Without `kept`, the record of its worker, no worker has run it to an end. It runs again in the next run then,
        unless its group was stopped. Raise StoreError if the worker could not record all of it.
        """
        if isinstance(result.outcome, Outcome.Lost):
            self._state.lost.append(
                LostLine(
                    key=self._key.key,
                    sample=result.sample,
                    attempt=result.attempt,
                    worker=result.worker,
                    reason=result.outcome.reason,
                    beside=result.outcome.beside,
                    at=time.time(),
                )
            )
        if kept is None and not isinstance(result.outcome, Outcome.Stopped):
            return msgspec.structs.replace(result, key=self._key.key)
        kept = kept or Kept()
        if kept.problem is not None:
            raise StoreError(f"{result.worker} could not record {self._key.place}: {kept.problem}")
        self._state.done.append(_line(result, self._key, kept))
        traces = StoredTraces(self._state.directory / TRACES, kept.traces, self._key.key)
        return msgspec.structs.replace(result, key=self._key.key, traces=traces)


def map_store(store: Store, function: str, own_key: TaskKey | None, tasks: object) -> MapStore:
    """Return the store of one map.

    Raises:
        TypeError: a task has no key (checked for tasks that can be iterated more than once).
        StoreError: two tasks have one key; or the store holds the results of another function, or was closed.
    """
    state: _State = store._state
    state.check_open()
    if isinstance(tasks, Collection):
        first_look = MapStore(state, own_key)
        for number, task in enumerate(islice(tasks, LOOK_AHEAD)):
            first_look.task(number, task).is_done(0)
    state.hold(function)
    return MapStore(state, own_key)


def check_unchanged(store: Store, key: Key, samples: int) -> None:
    """Raise StoreError if a result under this key is of another task."""
    task = TaskStore(store._state, key)
    for sample in range(samples):
        task.is_done(sample)


class _State:
    def __init__(
        self, directory: Path, settings: dict[str, Json], *, retry_errors: bool, fsync: bool
    ) -> None:
        directory = directory.absolute()
        self.directory: Path = directory
        self.retry_errors = retry_errors
        self.fsync = fsync
        self.has_map: bool = False
        make(directory)
        self._lock: Lock | None = Lock(directory)
        try:
            if not is_store(directory):
                write_run(directory, new_run(settings))
            self.run: RunFile = read_run(directory)
            if how := differing(self.run.settings, settings):
                raise StoreError(
                    f"this store belongs to another run: {how}; use another directory", path=str(directory)
                )
            probe(directory)
            self.lost: LostFile = LostFile(directory / LOST)
            self.done: DoneFile = DoneFile(directory / DONE, fsync=fsync)
        except BaseException:
            self._lock.release()
            raise

    def check_open(self) -> None:
        if self._lock is None:
            raise StoreError("it is closed: its block has ended", path=str(self.directory))

    def hold(self, function: str) -> None:
        """Record the function whose results the store holds; raise StoreError if it holds those of another function."""
        if self.run.function is None:
            self.run = msgspec.structs.replace(self.run, function=function)
            write_run(self.directory, self.run)
        if self.run.function != function:
            raise StoreError(
                f"this store belongs to another run: it holds results of {self.run.function!r}, not {function!r}; use "
                "another directory (if the function was renamed, change its name in run.json)",
                path=str(self.directory),
            )

    def begin(self) -> None:
        """Mark the store as used by a running map; raise StoreError if another map runs."""
        self.check_open()
        if self.has_map:
            raise StoreError(
                "another map runs with it: give this map another store", path=str(self.directory)
            )
        self.has_map = True

    def close(self) -> None:
        if self._lock is not None:
            self.done.close()
            self._lock.release()
        self._lock = None


def _line(result: Result[Any, Any], key: Key, kept: Kept) -> DoneLine:
    outcome, error = result.outcome, None
    if isinstance(outcome, Outcome.Error):
        kind, message = type(outcome.error), text_of(outcome.error)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(outcome.error, RemoteError):
            name = outcome.error.type
            message = message.removeprefix(f"{name}: ")
        error = ErrorLine(type=name, message=mended_text(message), traceback=mended_text(outcome.traceback))
    return DoneLine(
        key=key.key,
        sample=result.sample,
        group=result.group,
        digest=key.digest,
        outcome=_WORDS[type(outcome)],
        value=msgspec.Raw(kept.value) if isinstance(outcome, Outcome.Value) else msgspec.UNSET,
        error=error,
        number=result.number,
        attempt=result.attempt,
        worker=result.worker,
        at=time.time(),
        scores=result.scores,
        traces=kept.traces,
        task=msgspec.UNSET if key.data is None else msgspec.Raw(key.data),
    )


_WORDS: dict[type, OutcomeWord] = {Outcome.Value: "value", Outcome.Error: "error", Outcome.Stopped: "stopped"}
