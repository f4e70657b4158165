"""Medians of the rounds, the tables, and `bench/results.json`; and `bench/figures.json`.

The ratio of a row is the median of the ratios of the rounds, not the ratio of the medians: both servers of one round
had the same weather. A target is met if this median, or the 95 % interval of six or more pairs, reaches it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from .ratios import Ratio, ratio_of
from .scenarios import Figures
from .targets import ALONE, OURS, TARGETS, Target

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
    low: float | None = None
    """Ends of the 95 % interval of `ratio`, which is the median of so many `pairs`."""
    high: float | None = None
    pairs: int = 0


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

    def ratios(self) -> dict[str, dict[str, Ratio]]:
        """Return the ratio of each figure to each server, and, as `ALONE`, the figure itself."""
        names = dict.fromkeys(name for seen in self._rounds.get(OURS, []) for name in seen)
        found: dict[str, dict[str, Ratio]] = {}
        for name in names:
            for peer in (ALONE, *self._rounds):
                ratio = self._ratio(Target(name, None if peer == ALONE else peer, 0.0))
                if peer != OURS and ratio is not None:
                    found.setdefault(name, {})[peer] = ratio
        return found

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
        if ratio is None:
            return Row(target.name, target.peer, None, target.target, None)
        return Row(
            target.name,
            target.peer,
            round(ratio.median, 3),
            target.target,
            target.reached(ratio),
            round(ratio.low, 3),
            round(ratio.high, 3),
            ratio.pairs,
        )

    def _ratio(self, target: Target) -> Ratio | None:
        """Return the ratio of a row; a row without a peer is compared with 1."""
        ours = self._values(OURS, target.figure)
        theirs = self._values(target.peer, target.figure) if target.peer else dict.fromkeys(ours, 1.0)
        numbers = [number for number in ours if theirs.get(number)]
        if not numbers:
            return None
        return ratio_of([ours[number] for number in numbers], [theirs[number] for number in numbers])

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
        return shown if ratio is None else f"{shown} [dim]({ratio.median:.2f})[/dim]"

    def _targets_table(self) -> Table:
        table = Table("row", "seen", "floor", "target", title="targets")
        for target, row in zip(TARGETS, self.rows(), strict=True):
            table.add_row(
                row.name,
                _shown(row),
                _mark(target, row.ratio, target.floor),
                _mark(target, row.ratio, target.target),
            )
        return table


def _shown(row: Row) -> str:
    if row.ratio is None:
        return "-"
    spread = f" ({row.low:.3g} to {row.high:.3g}, {row.pairs} pairs)" if row.peer and row.pairs > 1 else ""
    return f"{row.ratio:.3g}{spread}"


def _mark(target: Target, ratio: float | None, mark: float | None) -> str:
    if mark is None:
        return ""
    text = f"{'>=' if target.more_is_better else '<='} {mark:g}"
    if ratio is None:
        return text
    return f"[green]{text} yes[/green]" if target.met(ratio, mark) else f"[red]{text} no[/red]"
