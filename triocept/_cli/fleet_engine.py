"""`--engine`: what runs a fleet's workers, as the command line says it."""

from __future__ import annotations

import click

from ..fleets import Engine, InProcess, Processes, RayEngine

__all__ = ["ENGINES", "engine_of"]

ENGINES = "in-process[:SLOTS] | processes[:N] | ray[:ADDRESS]"
SLOTS = 32
"""Of a worker, unless said otherwise."""


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
