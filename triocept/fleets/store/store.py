"""Open a store, lock it, and read and write its results, in the program that opened the fleet."""

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
from ..._util.secrets import without_keys
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
"""Maximum number of tasks that are checked before the first task runs. A limit is needed because a `range` may be huge.
To check this many tasks takes some seconds."""

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
    """Open a store, a directory that keeps a fleet's results: `async with open_store("runs/today") as store`.

    Pass the store to a map: `fleet.map(solve, tasks, store=store)`. The same code begins a run and resumes it: the map
    runs only the tasks that have no outcome in the store. Every rollout that is opened for these tasks is recorded in
    the store, even if its endpoint has another recorder.

    Args:
        directory: directory for this run only; created with its parents if it does not exist. If workers run on several
            machines, it must be on a disk that they share, under the same path.
        settings: settings that distinguish this run from others, such as the model or the prompt's version. The
            settings are stored. If the store is later opened with other settings, `StoreError` is raised.
        retry_errors: if True, tasks whose outcome is an error run again. The new outcome then counts.
        fsync: True forces a result and its traces to the disk before the result is delivered. If False, a result
            survives a SIGKILL of the program, but the last results may be lost in a power cut. `triocept check`
            reports lost parts.

    Raises:
        StoreError: the directory is not a store, or has other settings; a newer triocept wrote it; another program has
            locked it; or a line is damaged. The error's text names the file, and for a damaged line its number.
        OSError: the store cannot be read or written, or its disk is full.

    Closing: releases the lock, so that other programs can open the store. Keep the store open while a map uses it.
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
    """An open store, locked by this program. Made by `open_store` only."""

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
        """The settings of the store, which were passed to `open_store` when the store was created."""
        return MappingProxyType(self._state.run.settings)

    def results(self) -> Iterator[Result[Json, Json]]:
        """Return the finished results, including those of earlier runs, in the order in which they were finished.

        For the details see `read_results`.
        """
        return results_in(self.directory)


@final
class MapStore:
    """The part of a store that one map uses. Made by the function `map_store` only."""

    def __init__(self, state: _State, own_key: TaskKey | None) -> None:
        self._state = state
        self._own_key = own_key
        self._numbers: dict[str, int] = {}
        """Index of each task that the map has read so far, by the task's key."""

    def open(self) -> None:
        """Reserve the store for this map. Raise StoreError if another map uses the store, or if the store is closed."""
        self._state.begin()

    def task(self, number: int, task: object) -> TaskStore:
        """Return the store's entry for `task`; raise StoreError if an earlier task of the map has the same key."""
        key = key_of(task, f"task {number}", self._own_key)
        if (first := self._numbers.setdefault(key.key, number)) != number:
            raise StoreError(
                f"{key.place} has the same key as task {first}: {key.key!r}; each task needs its own key "
                "(the number 1 and the text '1' are the same key)"
            )
        return TaskStore(self._state, key)

    def close(self) -> None:
        self._state.has_map = False


@final
class TaskStore:
    """The store's entry for one task. Made by `MapStore` only."""

    def __init__(self, state: _State, key: Key) -> None:
        self._state = state
        self._key = key

    def is_done(self, sample: int) -> bool:
        """Return True if the store has the outcome of `sample`, so that the sample need not run.

        Raise StoreError if the outcome that is stored under the task's key is the outcome of another task.
        """
        key = self._key
        known = self._state.done.index.get((key.key, sample))
        if known is not None and None not in (known.digest, key.digest) and known.digest != key.digest:
            raise StoreError(
                f"task {key.key!r} ({key.place}) differs from the task that is stored under this id: give it a new id, "
                "or call fleet.map with key=…, which compares the keys of tasks, and not the tasks themselves",
                path=str(self._state.directory),
            )
        if (key.key, sample) in self._state.again:
            return False
        if known is None:
            return self._state.runs_only_again
        return not (known.is_error and self._state.retry_errors)

    def was_lost(self, size: int) -> bool:
        """Return True if one of the samples had the outcome `Outcome.Lost`, in an earlier run or in this run."""
        return any((self._key.key, sample) in self._state.lost.keys for sample in range(size))

    def stored(self, task: T, sample: int) -> Result[T, Any]:
        """Return the stored result of a sample. Its value is decoded from JSON, and an error is a `RemoteError`.

        If the sample has no stored result, the outcome of the returned result is `Outcome.Stopped` (see `run_again`).
        """
        key = self._key.key
        if (key, sample) not in self._state.done.index:
            stopped = Outcome.Stopped()
            return Result(task=task, number=0, sample=sample, attempt=0, worker="", outcome=stopped, key=key)
        result = result_of(self._state.directory, self._state.done.read(key, sample))
        return cast(Result[T, Any], msgspec.structs.replace(result, task=task))

    def record_to(self, sample: int, attempt: int, worker: str) -> RecordTo:
        state = self._state
        task: dict[str, Json] = {"task": self._key.key, "sample": sample, "attempt": attempt}
        return RecordTo(str(state.directory), state.run.run, worker, task, state.fsync)

    @trio.lowlevel.enable_ki_protection
    def kept(self, result: Result[T, V], kept: Kept | None) -> Result[T, V]:
        """Store `result`. Return it as the map yields it: with its key, and with traces that are read from the store.

        `kept` is the worker's record of the call: the places of its traces, and its value as JSON. It is None if no
        worker has run the call to its end. If `kept` is None and the group was not stopped, nothing is stored as done:
        the next run runs the task again. Raise StoreError if `kept` is incomplete.
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
        if self._state.again.pop((self._key.key, result.sample), False):
            before = self._state.done.read(self._key.key, result.sample)
            kept = msgspec.structs.replace(kept, traces=(*before.traces, *kept.traces))
            result = msgspec.structs.replace(result, scores=before.scores | result.scores)
        self._state.done.append(_line(result, self._key, kept))
        traces = StoredTraces(self._state.directory / TRACES, kept.traces, self._key.key)
        return msgspec.structs.replace(result, key=self._key.key, traces=traces)


def map_store(store: Store, function: str, own_key: TaskKey | None, tasks: object) -> MapStore:
    """Check that a map can use `store`, and return the part of the store that this map uses.

    Raises:
        TypeError: a task has no key. The keys are checked here only if the tasks can be iterated more than once.
        StoreError: two tasks have the same key; or the store contains results of another function, or was closed.
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
    """Raise StoreError if the store's results under `key` belong to a task whose content differs."""
    task = TaskStore(store._state, key)
    for sample in range(samples):
        task.is_done(sample)


def run_again(
    store: Store, samples: Mapping[tuple[str, int], bool], *, runs_others: bool = True
) -> dict[tuple[str, int], int]:
    """Make the next map run `samples` again, although they have outcomes. The new outcomes then count.

    Args:
        samples: for each sample, by the task's key and the sample's index: True if the new outcome should also have the
            traces of the outcome that it replaces.
        runs_others: if False, no other sample is run. The map then yields a sample without a stored outcome as
            `Outcome.Stopped`.

    Returns:
        for each sample, the offset in bytes at which its line in `done.jsonl` starts.
    """
    state = store._state
    state.again, state.runs_only_again = dict(samples), not runs_others
    return {place: state.done.index[place].offset for place in samples if place in state.done.index}


class _State:
    def __init__(
        self, directory: Path, settings: dict[str, Json], *, retry_errors: bool, fsync: bool
    ) -> None:
        directory = directory.absolute()
        self.directory: Path = directory
        self.retry_errors = retry_errors
        self.fsync = fsync
        self.has_map: bool = False
        self.again: dict[tuple[str, int], bool] = {}
        """Samples that run again although they have outcomes; see `run_again`."""
        self.runs_only_again = False
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
            raise StoreError("the store is closed: its block has ended", path=str(self.directory))

    def hold(self, function: str) -> None:
        """Record `function`, the name of the function whose results the store contains.

        Raise StoreError if the store already contains results of another function.
        """
        if self.run.function is None:
            self.run = msgspec.structs.replace(self.run, function=function)
            write_run(self.directory, self.run)
        if self.run.function != function:
            raise StoreError(
                f"this store belongs to another run: it contains results of the function {self.run.function!r}, not of "
                f"{function!r}; use another directory (if the function was renamed, change its name in run.json)",
                path=str(self.directory),
            )

    def begin(self) -> None:
        self.check_open()
        if self.has_map:
            raise StoreError(
                "another map is using the store: open another store for this map", path=str(self.directory)
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
        message, traceback = (without_keys(mended_text(text)) for text in (message, outcome.traceback))
        error = ErrorLine(type=name, message=message, traceback=traceback)
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
