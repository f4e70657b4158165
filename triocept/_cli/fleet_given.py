"""The input of `triocept fleet`, checked before anything starts.

It is the file of tasks, a JSON object in each line, and the engine that runs the workers, as `--engine` names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from .._canonical.content import Json
from ..fleets import Engine, InProcess, Processes, RayEngine
from ..fleets.store.keys import key_of

MOST_ERRORS = 10
"""Maximum bad lines to list."""
ENGINES = "in-process[:SLOTS] | processes[:N] | ray[:ADDRESS]"
SLOTS = 32
"""Default number of slots per worker."""
_BOM = b"\xef\xbb\xbf"


class TaskLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the file of tasks."""

    prompt: str
    """Prompt of the agent."""
    id: str | int | None = None
    """Key that distinguishes the task, also when the run is resumed. None: its complete content does."""
    metadata: dict[str, Json] = {}
    """Metadata of its traces."""


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """Return the tasks in a file, as JSON objects without unset fields. Blank lines are skipped.

    Raises:
        click.UsageError: a line is not a task, or two tasks are equal; the text has the line numbers.
    """
    tasks: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    """Line of each key."""
    errors: list[str] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
            if not text:
                continue
            try:
                tasks.append(_task(text, number, lines))
            except ValueError as exc:
                errors.append(f"{path}:{number}: {exc}")
    if errors:
        more = f"\nand {len(errors) - MOST_ERRORS} more" if len(errors) > MOST_ERRORS else ""
        raise click.UsageError("\n".join(errors[:MOST_ERRORS]) + more)
    if not tasks:
        raise click.UsageError(f'{path}: there is no task in it; a line is {{"prompt": "fix the bug"}}')
    return tasks


def _task(text: bytes, number: int, lines: dict[str, int]) -> dict[str, Any]:
    try:
        line = msgspec.json.decode(text, type=TaskLine)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ValueError(f'{exc}; a line is {{"prompt": …, "id": …, "metadata": {{…}}}}') from None
    if not line.prompt.strip():
        raise ValueError("its prompt is empty")
    task: dict[str, Any] = msgspec.to_builtins(line)
    first = lines.setdefault(key_of(task, "it").key, number)
    if first != number and line.id is not None:
        raise ValueError(f"its id {line.id!r} is that of line {first}, too")
    if first != number:
        raise ValueError(
            f"it is the same as line {first}; an `id` tells them apart, or --group-size runs it several times"
        )
    return task


def engine_of(text: str, workers: int | None, slots: int | None) -> Engine:
    """Return the engine that `--engine`, `--workers` and `--slots-per-worker` describe.

    Raises:
        click.UsageError: they are invalid, or contradict each other, or Ray is not installed.
    """
    kind, _, rest = text.partition(":")
    match kind:
        case "in-process":
            if workers not in (None, 1):
                raise click.UsageError("--engine in-process has one worker; processes:N has several")
            return InProcess(_one_of(_count(rest, text), slots, "--slots-per-worker", text) or SLOTS)
        case "processes":
            count = _one_of(_count(rest, text), workers, "--workers", text)
            return Processes(count, slots_per_worker=slots or SLOTS)
        case "ray":
            try:
                return RayEngine(rest or None, workers=workers, slots_per_worker=slots or SLOTS)
            except ImportError as exc:
                raise click.UsageError(f"--engine {text}: {exc}") from exc
        case _:
            raise click.UsageError(f"--engine {text}: there is no such engine; there are {ENGINES}")


def _count(rest: str, text: str) -> int | None:
    if not rest:
        return None
    if not rest.isdecimal() or int(rest) < 1:
        raise click.UsageError(f"--engine {text}: {rest!r} is no number from 1 on")
    return int(rest)


def _one_of(here: int | None, there: int | None, option: str, text: str) -> int | None:
    if None not in (here, there) and here != there:
        raise click.UsageError(f"--engine {text} and {option} {there} contradict each other")
    return here or there
