"""What `triocept fleet` is given, looked at before anything starts: the file of tasks, a JSON object in each line, and
what runs its workers, as `--engine` says it.
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
"""Bad lines that are told of at once."""
ENGINES = "in-process[:SLOTS] | processes[:N] | ray[:ADDRESS]"
SLOTS = 32
"""Of a worker, unless said otherwise."""
_BOM = b"\xef\xbb\xbf"


class TaskLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line."""

    prompt: str
    """What the agent is to do."""
    id: str | int | None = None
    """What tells it from every other one, also when the run is resumed. None: its whole content does."""
    metadata: dict[str, Json] = {}
    """Goes into its traces."""


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """The tasks in a file, as JSON objects without what they do not say. Blank lines are none.

    Raises:
        click.UsageError: a line is no task, or two are the same: each with its number.
    """
    tasks: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    """Where each key was."""
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
    """What `--engine`, `--workers` and `--slots-per-worker` mean.

    Raises:
        click.UsageError: they are none, or contradict each other, or Ray is not installed.
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
