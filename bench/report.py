"""Medians of the rounds, the tables, and `bench/results.json`; and `bench/figures.json`, from which `plots` draws.

The ratio of a row is the median of the ratios of the rounds, not the ratio of the medians: both servers of one round
had the same weather.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from .scenarios import Figures
from .targets import OURS, TARGETS, Target

RESULTS = Path(__file__).with_name("results.json")
FIGURES = Path(__file__).with_name("figures.json")


@dataclass(frozen=True)
class Row:
    """A row of `results.json`."""

    name: str
    peer: str | None
    ratio: float | None
    """None: not measured, because the peer is not installed or the scenario was left out."""
    target: float
    met: bool | None


class Report:
    """What was seen, and what it means."""

    def __init__(self) -> None:
        self._rounds: dict[str, list[Figures]] = {}

    def add(self, server: str, number: int, figures: Figures) -> None:
        """Take the figures of a server in a round."""
        rounds = self._rounds.setdefault(server, [])
        while len(rounds) <= number:
            rounds.append({})
        rounds[number].update(figures)

    def rows(self) -> list[Row]:
        """A row for each target."""
        return [self._row(target) for target in TARGETS]

    def write(self) -> Path:
        """Write `bench/results.json`, and the figures."""
        text = json.dumps([asdict(row) for row in self.rows()], indent=2)
        RESULTS.write_text(text + "\n", encoding="utf-8")
        FIGURES.write_text(json.dumps(self._figures(), indent=1) + "\n", encoding="utf-8")
        return RESULTS

    def _figures(self) -> dict[str, dict[str, float]]:
        """The medians of each server, by name of the figure."""
        names = dict.fromkeys(name for rounds in self._rounds.values() for seen in rounds for name in seen)
        return {
            name: {
                server: median(seen.values())
                for server in self._rounds
                if (seen := self._values(server, name))
            }
            for name in names
        }

    def show(self, console: Console) -> None:
        """Print what was seen, then the rows."""
        console.print(self._figures_table(), self._targets_table())

    def _row(self, target: Target) -> Row:
        ratio = self._ratio(target)
        met = None if ratio is None else target.met(ratio)
        return Row(target.name, target.peer, None if ratio is None else round(ratio, 3), target.target, met)

    def _ratio(self, target: Target) -> float | None:
        ours = self._values(OURS, target.figure)
        if target.peer is None:
            return median(ours.values()) if ours else None
        theirs = self._values(target.peer, target.figure)
        ratios = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys() if theirs[number]]
        return median(ratios) if ratios else None

    def _values(self, server: str, figure: str) -> dict[int, float]:
        rounds = self._rounds.get(server, [])
        return {number: seen[figure] for number, seen in enumerate(rounds) if figure in seen}

    def _figures_table(self) -> Table:
        servers = list(self._rounds)
        table = Table("figure", *servers, title="medians of the rounds, and the ratio of ours to each")
        names = dict.fromkeys(name for rounds in self._rounds.values() for seen in rounds for name in seen)
        for name in names:
            table.add_row(name, *(self._cell(server, name) for server in servers))
        return table

    def _cell(self, server: str, figure: str) -> str:
        values = self._values(server, figure)
        if not values:
            return "-"
        middle = median(values.values())
        shown = f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
        ratio = self._ratio(Target(figure, server, 0.0)) if server != OURS else None
        return shown if ratio is None else f"{shown} [dim]({ratio:.2f})[/dim]"

    def _targets_table(self) -> Table:
        table = Table("row", "seen", "floor", "target", title="targets")
        for target, row in zip(TARGETS, self.rows(), strict=True):
            table.add_row(
                row.name,
                "-" if row.ratio is None else f"{row.ratio:.3g}",
                _mark(target, row.ratio, target.floor),
                _mark(target, row.ratio, target.target),
            )
        return table


def _mark(target: Target, ratio: float | None, mark: float | None) -> str:
    if mark is None:
        return ""
    text = f"{'>=' if target.more_is_better else '<='} {mark:g}"
    if ratio is None:
        return text
    return f"[green]{text} yes[/green]" if target.met(ratio, mark) else f"[red]{text} no[/red]"
