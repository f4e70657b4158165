"""Functions that read the results and traces of a store, in any program, also while a run writes to the store."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from ..._canonical.content import Json
from ...errors import RemoteError, StoreError
from ..outcomes import AnyOutcome, Outcome, Result
from .layout import DONE, TRACES, read_run, unsafe
from .lines import DoneLine, index_of, lines_of
from .places import StoredTraces


def read_results(directory: str | os.PathLike[str]) -> Iterator[Result[Json, Json]]:
    """Return the results of a store, in the order in which they were finished. A run may still write to the store.

    Each task (and each sample of a group) is returned once, with its last outcome. `task` and the value of an
    `Outcome.Value` are the stored JSON; `task` is None if the task is not JSON. An error is a `RemoteError` with the
    name of its class. Each access to `traces` reads them from the store. The call needs some hundred bytes of memory
    for each result, and keeps no trace in memory.

    Raises:
        StoreError: the directory is not a store, a newer triocept wrote it, or a line is damaged; the text names the
            line.
        OSError: the store cannot be read. Both errors are raised by the call itself. The iteration raises them only if
            the store was damaged after the call.
    """
    path = Path(os.path.abspath(directory))
    read_run(path)
    return results_in(path)


def results_in(directory: Path) -> Iterator[Result[Json, Json]]:
    path = directory / DONE
    index, end = index_of(path)
    return (result_of(directory, line) for line in lines_of(path, index, end))


def trace_files(
    directory: Path, on_skip: Callable[[Path, str], object] = lambda path, reason: None
) -> list[Path]:
    """Return the files with traces in a store, in the order of their names.

    For each file that must not be read, call `on_skip` with the file and the reason (see `unsafe`).
    """
    found: list[Path] = []
    for path in sorted((directory / TRACES).iterdir()):
        if path.suffix == ".jsonl" and (reason := unsafe(path, directory)):
            on_skip(path, reason)
        elif path.suffix == ".jsonl":
            found.append(path)
    return found


def named_runs(
    directory: Path, wanted: Collection[str] = (), on_damage: Callable[[StoreError], object] | None = None
) -> tuple[set[str], int, int]:
    """Return the `Trace.run` of all traces of results, the number of results, and the number of results without a file.

    A result is counted as one without a file if its line in `done.jsonl` refers to a trace file that does not exist. If
    `wanted` contains ids or runs of rollouts, only the files that should contain these rollouts are checked. A trace in
    the store whose run is not returned belongs to an attempt without a result. For each damaged line of `done.jsonl`,
    call `on_damage` with an error. If `on_damage` is None, raise the first error.
    """
    read_run(directory)

    def report(number: int, why: str) -> None:
        if on_damage is not None:
            on_damage(
                StoreError(
                    f"this line does not belong to a store: {why}", path=f"{directory / DONE}:{number}"
                )
            )

    index, end = index_of(directory / DONE, None if on_damage is None else report)
    runs: set[str] = set()
    files: Counter[frozenset[str]] = Counter()
    for line in lines_of(directory / DONE, index, end):
        runs.update(place.run for place in line.traces)
        places = (place for place in line.traces if not wanted or {place.rollout, place.run} & {*wanted})
        files[frozenset(place.file for place in places)] += 1
    there = {path.name for path in trace_files(directory)}
    return runs, files.total(), sum(count for names, count in files.items() if not names <= there)


def result_of(directory: Path, line: DoneLine) -> Result[Json, Json]:
    outcome: AnyOutcome[Json]
    if line.error is not None:
        outcome = Outcome.Error(RemoteError(line.error.message, type=line.error.type), line.error.traceback)
    else:
        outcome = Outcome.Stopped() if line.outcome == "stopped" else Outcome.Value(_json(line.value))
    return Result(
        task=_json(line.task),
        key=line.key,
        number=line.number,
        group=line.group,
        sample=line.sample,
        attempt=line.attempt,
        worker=line.worker,
        outcome=outcome,
        scores=line.scores,
        traces=StoredTraces(directory / TRACES, line.traces, line.key),
    )


def _json(raw: msgspec.Raw | msgspec.UnsetType) -> Json:
    value: Json = None if raw is msgspec.UNSET else msgspec.json.decode(raw)
    return value
