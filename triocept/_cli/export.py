"""`triocept export`: a file of traces, in another format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from .._trace.reader import read_traces
from .._trace.trace import Trace
from ..errors import DialectError
from ..exports import FORMATS, Losses, write_export
from .screen import say

__all__ = ["Export"]


@dataclass(frozen=True)
class Export:
    """One `triocept export`."""

    file: Path
    to: str
    out: Path
    rollouts: tuple[str, ...] = ()
    """Their ids; empty: all that are in the file."""
    replace: bool = False

    def run(self) -> None:
        """Write it, and say what it could not say.

        Raises:
            TrioceptError, OSError, click.ClickException: it cannot be done.
        """
        traces = self._chosen(read_traces(self.file, on_damage=_tell_damage))
        for trace in traces:
            if not trace.sealed:
                say(f"▸ rollout {trace.rollout} is not sealed: turns of it may be missing")
        losses = self._write(traces)
        turns = sum(map(len, traces))
        say(f"▸ {turns} turns of {len(traces)} rollouts in {self.out}{f'; {losses}' if losses else ''}")

    def _write(self, traces: list[Trace]) -> Losses:
        try:
            return write_export(traces, self.to, self.out, replace=self.replace)
        except ModuleNotFoundError as exc:
            raise click.ClickException(str(exc)) from exc
        except FileExistsError as exc:
            hint = "another name" if FORMATS[self.to].write is None else "--force replaces it"
            raise click.ClickException(f"{exc.filename}: there is something already; {hint}") from exc

    def _chosen(self, traces: list[Trace]) -> list[Trace]:
        if not traces:
            raise click.ClickException(f"{self.file}: there is no rollout in it")
        known = {trace.rollout for trace in traces}
        if unknown := [each for each in self.rollouts if each not in known]:
            raise click.ClickException(
                f"{self.file}: there is no rollout {unknown[0]!r} in it; there are {_listed(sorted(known))}"
            )
        return [trace for trace in traces if not self.rollouts or trace.rollout in self.rollouts]


MOST = 10
"""Rollouts that are named."""


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _tell_damage(damage: DialectError) -> None:
    say(f"▸ {damage}")
