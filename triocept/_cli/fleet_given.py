"""The input of `triocept fleet`, which is checked before anything starts.

The input is the file of tasks, with a JSON object in each line, and the engine of `--engine`, which runs the workers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import msgspec

from .._canonical.content import Json
from ..fleets import Engine, InProcess, Processes, RayEngine
from ..fleets.store.keys import key_of
from .options import did_you_mean

MOST_ERRORS = 10
"""Maximum invalid lines to list."""
MOST_SHOWN = 60
"""Maximum characters of an invalid value to print."""
ENGINES = "in-process[:SLOTS] | processes[:N] | ray[:ADDRESS]"
_KINDS = ("in-process", "processes", "ray")
SLOTS = 32
"""Default number of slots per worker."""
_BOM = b"\xef\xbb\xbf"


class TaskLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    prompt: str
    """Prompt of the agent."""
    id: str | int | None = None
    """Key that identifies the task, also when the run is resumed. If None, the task's whole content is its key."""
    metadata: dict[str, Json] = {}
    """Metadata of the task's traces."""


def read_tasks(path: Path) -> dict[str, dict[str, Any]]:
    """Return the tasks of a file as JSON objects without unset fields, by `FILE:LINE`. Blank lines are skipped.

    Raise click.UsageError, with the numbers of the lines, if a line is not a task, or if two tasks are equal.
    """
    tasks: dict[str, dict[str, Any]] = {}
    lines: dict[str, int] = {}
    """Number of the line that contains the task with each key."""
    errors: list[str] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
            if not text:
                continue
            try:
                tasks[f"{path}:{number}"] = _task(text, number, lines)
            except ValueError as exc:
                errors.append(f"{path}:{number}: {exc}")
    if errors:
        more = f"\nand {len(errors) - MOST_ERRORS} more" if len(errors) > MOST_ERRORS else ""
        raise click.UsageError("\n".join(errors[:MOST_ERRORS]) + more)
    if not tasks:
        raise click.UsageError(
            f'{path} contains no task: write one task per line, as in {{"prompt": "fix the bug"}}'
        )
    return tasks


def _task(text: bytes, number: int, lines: dict[str, int]) -> dict[str, Any]:
    try:
        line = msgspec.json.decode(text, type=TaskLine)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ValueError(
            f'{_in_words(str(exc), text)}; a line must have the form {{"prompt": …, "id": …, "metadata": {{…}}}}'
        ) from None
    if not line.prompt.strip():
        raise ValueError("the prompt is empty")
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


def _in_words(error: str, text: bytes) -> str:
    """Return the text of an error of msgspec, with plain words instead of msgspec's names of types."""
    if error == "Input data was truncated":
        return "the JSON object is not closed"
    if "unknown field" in error:
        return f"{error.removeprefix('Object contains ')}: put your own data into metadata"
    if found := re.fullmatch(r"Expected `(.+)`, got `\w+`(?: - at `\$\.(\w+)`)?", error):
        value = msgspec.json.decode(text)
        if name := found[2]:
            value = value[name]
        expected = [_TYPES[each] for each in found[1].split(" | ") if each in _TYPES]
        shown = msgspec.json.encode(value).decode()
        shown = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…"
        return f"{name or 'a task'} must be {' or '.join(expected)}, not {shown}"
    return error


_TYPES = {"str": "a text", "int": "a whole number", "object": "a JSON object"}


def engine_of(text: str, workers: int | None, slots: int | None) -> Engine:
    """Return the engine that `--engine`, `--workers` and `--slots-per-worker` describe.

    Raise click.UsageError if an option is invalid, if two options contradict each other, or if Ray is not installed.
    """
    kind, _, rest = text.partition(":")
    if kind != "ray" and rest and not (rest.isdecimal() and int(rest)):
        raise click.UsageError(f"--engine {text}: the number of workers must be 1 or more, not {rest!r}")
    number = int(rest) if kind != "ray" and rest else None
    match kind:
        case "in-process":
            if workers not in (None, 1):
                raise click.UsageError(
                    "--engine in-process has one worker: leave --workers out, or use processes:N"
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
                f"--engine {text}: unknown engine{did_you_mean(kind, _KINDS)}; the engines are {ENGINES}"
            )


def _one_of(here: int | None, there: int | None, option: str, text: str) -> int | None:
    if None not in (here, there) and here != there:
        raise click.UsageError(
            f"--engine {text} and {option} {there} give different numbers: omit one of them"
        )
    return here or there
