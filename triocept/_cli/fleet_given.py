"""Read and check the file of tasks and the engine of `triocept fleet`, before any worker or agent starts.

The file of tasks has a JSON object in each line. The option `--engine` selects the engine, which runs the workers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from .._canonical.content import Json
from ..fleets import Engine, InProcess, Processes, RayEngine
from ..fleets.store.keys import key_of
from .options import check_tasks_file, did_you_mean

ENGINES = "in-process[:SLOTS] | processes[:N] | ray[:ADDRESS]"
_KINDS = ("in-process", "processes", "ray")
SLOTS = 32
"""Default number of slots per worker."""
_FORM = 'a line must have the form {"prompt": …, "id": …, "metadata": {…}}'

_OWN = f"; put your own data into metadata; {_FORM}"


class TaskLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    prompt: str
    """Prompt of the agent."""
    id: str | int | None = None
    """Key that identifies the task, also in a resumed run. If None, the task's whole content is its key."""
    metadata: dict[str, Json] = {}
    """Metadata that the task's traces get."""


def read_tasks(path: Path) -> dict[str, dict[str, Any]]:
    """Return the tasks of a file, as JSON objects without unset fields. Their keys are `FILE:LINE`. Skip blank lines.

    Raise click.UsageError, with the numbers of the lines, if a line is not a task, or if two tasks are equal.
    """
    from ..evaluation.readers.json_lines import decoded_lines
    from ..evaluation.readers.reading import first_of

    check_tasks_file(path)
    tasks: dict[str, dict[str, Any]] = {}
    lines: dict[str, int] = {}
    """For each key of a task: number of the line with the task."""
    errors: list[str] = []
    for number, document in decoded_lines(path, _FORM):
        try:
            if document is not None:
                tasks[f"{path}:{number}"] = _task(document, number, lines)
        except ValueError as exc:
            errors.append(f"{path}:{number}: {exc}")
    if errors:
        raise click.UsageError(first_of(errors))
    if not tasks:
        raise click.UsageError(
            f'{path} contains no task: write one task per line, as in {{"prompt": "fix the bug"}}'
        )
    return tasks


def _task(document: object, number: int, lines: dict[str, int]) -> dict[str, Any]:
    from ..evaluation import Task
    from ..evaluation.readers.reading import in_words

    if isinstance(document, ValueError):
        raise document
    for name in document if isinstance(document, dict) else ():
        if name in ("input", *Task.__struct_fields__) and name not in TaskLine.__struct_fields__:
            other = "name it prompt" if name == "input" else "use triocept eval, or put it into metadata"
            raise ValueError(f"{name} is a field of triocept eval: {other}")
        if name not in TaskLine.__struct_fields__:
            raise ValueError(f"unknown field {name!r}{did_you_mean(name, TaskLine.__struct_fields__, _OWN)}")
    try:
        line = msgspec.convert(document, TaskLine)
    except msgspec.ValidationError as exc:
        raise ValueError(f"{in_words(exc, document)}; {_FORM}") from None
    if not line.prompt.strip():
        raise ValueError("the prompt is empty: give the task a prompt")
    task: dict[str, Any] = msgspec.to_builtins(line)
    first = lines.setdefault(key_of(task, "it").key, number)
    if first != number and line.id is not None:
        raise ValueError(f"line {first} has the same id, {line.id!r}: give each task its own id")
    if first != number:
        raise ValueError(
            f"line {first} is the same task: give the two lines different ids, or use --group-size to run each task "
            "several times"
        )
    return task


def engine_of(text: str, workers: int | None, slots: int | None) -> Engine:
    """Return the engine that `--engine`, `--workers` and `--slots-per-worker` describe.

    Raise click.UsageError if an option is invalid, if two options contradict each other, or if Ray is not installed.
    """
    kind, _, rest = text.partition(":")
    if kind != "ray" and rest and not (rest.isdecimal() and int(rest)):
        raise click.UsageError(f"--engine {text}: the number after the colon must be 1 or more, not {rest!r}")
    number = int(rest) if kind != "ray" and rest else None
    match kind:
        case "in-process":
            if workers not in (None, 1):
                raise click.UsageError(
                    "--engine in-process has one worker: omit --workers, or use --engine processes:N"
                )
            return InProcess(_one_of(number, slots, "--slots-per-worker", text) or SLOTS)
        case "processes":
            count = _one_of(number, workers, "--workers", text)
            return Processes(count, slots_per_worker=slots or SLOTS)
        case "ray":
            try:
                return RayEngine(rest or None, workers=workers, slots_per_worker=slots or SLOTS)
            except ImportError as exc:
                raise click.UsageError(f"--engine {text}: {exc}") from exc
        case _:
            raise click.UsageError(
                f"--engine {text}: unknown engine{did_you_mean(kind, _KINDS, f'; the engines are {ENGINES}')}"
            )


def _one_of(here: int | None, there: int | None, option: str, text: str) -> int | None:
    if None not in (here, there) and here != there:
        raise click.UsageError(
            f"--engine {text} and {option} {there} give different numbers: omit one of them"
        )
    return here or there
