"""Print the table of `triocept stats`, with as many columns as fit on the terminal."""

from __future__ import annotations

from collections.abc import Callable

from .page import Page, Piece
from .stats import Group, Quantiles, Stats
from .words import counted, cut, seconds, tokens


def _time(times: Quantiles, percent: int) -> str:
    return seconds(times.percentile(percent)) if times.count else "-"


COLUMNS: dict[str, Callable[[Group], str]] = {
    "calls": lambda group: f"{group.calls:,}",
    "err": lambda group: f"{group.errors:,}",
    "in": lambda group: tokens(group.usage.input_tokens if group.usage else None, group.usage),
    "cached": lambda group: tokens(group.usage.cached_tokens if group.usage else None, group.usage),
    "out": lambda group: tokens(group.usage.output_tokens if group.usage else None, group.usage),
    "p50": lambda group: _time(group.latency, 50),
    "p90": lambda group: _time(group.latency, 90),
    "max": lambda group: seconds(group.latency.max) if group.latency.count else "-",
    "first p50": lambda group: _time(group.first_token, 50),
    "first p90": lambda group: _time(group.first_token, 90),
}
LEAST_FIRST = ("first p90", "first p50", "cached", "p90", "max", "p50")
"""Columns that are left out first if the table is too wide."""
LAST = ("err", "out", "in")
"""Columns that are left out next, if the table is too wide even with the shortest names. Numbers are never cut."""
LONG, SHORTEST = 24, 5
"""Minimum length, in characters, of a cut name. `LONG`: until all columns of `LEAST_FIRST` are left out. `SHORTEST`:
after that.
"""


def show_stats(page: Page, stats: Stats) -> None:
    """Print the number of calls, and the table below it."""
    gaps = (
        f", {stats.sealed_with_gaps:,} sealed with gaps (`triocept check` shows each)"
        if stats.sealed_with_gaps
        else ""
    )
    page.line(
        (counted(stats.rollouts, "rollout", "rollouts"), "bold"),
        f", {stats.sealed:,} sealed{gaps}, {counted(stats.total.calls, 'call', 'calls')}; seconds of answered calls",
    )
    groups = stats.sorted_groups()
    if not groups:
        return
    rows = [(*key, group) for key, group in groups]
    if len(rows) > 1:
        rows.append((*("all" if not at else "" for at in range(len(stats.by))), stats.total))
    table = _fitting(stats.by, rows, page.width)
    names = len(stats.by)
    head: tuple[Piece, ...] = tuple((name, "bold") for name in table[0])
    page.table([head, *table[1:]], [at >= names for at in range(len(head))])
    if stats.total.uncounted:
        calls = counted(stats.total.uncounted, "call", "calls")
        page.line(f"the model reported no tokens for {calls}")
    if decisions := stats.total.decisions:
        page.line(f"decisions: {', '.join(f'{count:,} {kind}' for kind, count in decisions.items())}")
    if stats.bypasses:
        page.line(
            (
                f"{counted(stats.bypasses, 'tool call', 'tool calls')} ran without a decision of the gate",
                "yellow",
            )
        )
    if drafts := stats.total.drafts:
        usage = stats.total.draft_usage
        more = ""
        if usage is not None:
            read, written = tokens(usage.input_tokens, usage), tokens(usage.output_tokens, usage)
            more = f": {read} in {written} out, in the table"
        page.line(f"{counted(drafts, 'draft', 'drafts')}{more}")


def _fitting(by: tuple[str, ...], rows: list[tuple[object, ...]], width: int | None) -> list[tuple[str, ...]]:
    """Return a table that fits into `width` columns of the terminal.

    First, names are cut; then, columns are left out; at last, names are cut further.
    """
    columns = list(COLUMNS)
    table = _table(by, rows, columns)
    if width is None:
        return table
    table = _shortened(table, len(by), width, LONG)
    for name in LEAST_FIRST:
        if _width(table) > width:
            columns.remove(name)
            table = _shortened(_table(by, rows, columns), len(by), width, LONG)
    table = _shortened(table, len(by), width, SHORTEST)
    for name in LAST:
        if _width(table) > width:
            columns.remove(name)
            table = _shortened(_table(by, rows, columns), len(by), width, SHORTEST)
    return table


def _table(by: tuple[str, ...], rows: list[tuple[object, ...]], columns: list[str]) -> list[tuple[str, ...]]:
    table = [(*by, *columns)]
    for *names, group in rows:
        assert isinstance(group, Group)
        table.append((*map(str, names), *(COLUMNS[name](group) for name in columns)))
    return table


def _widths(table: list[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def _width(table: list[tuple[str, ...]]) -> int:
    return sum(width + 2 for width in _widths(table)) - 2


def _shortened(table: list[tuple[str, ...]], names: int, room: int, least: int) -> list[tuple[str, ...]]:
    """Return the table with its longest names cut, as far as the width `room` demands.

    No name is cut to less than `least` characters.
    """
    widths, over = _widths(table), _width(table) - room
    while over > 0 and names and max(widths[:names]) > least:
        at = widths.index(max(widths[:names]))
        widths[at], over = widths[at] - 1, over - 1
    return [
        tuple(
            cell if at >= names or len(cell) <= widths[at] else cut(cell, widths[at] - 1)
            for at, cell in enumerate(row)
        )
        for row in table
    ]
