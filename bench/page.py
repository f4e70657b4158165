"""Takes the figures of the last runs into the documentation: `python -m bench.page`.

The runs are in `bench/runs`. Their figures go into `docs/explanation/performance/figures.json`, with date, commit and
machine, and from there into the pages: a block between the comments `% figures: RUN TABLE` and `% end of figures` is
made from the figures of that run. A test fails if a page differs from the figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from .ratios import Ratio
from .results import RUNS
from .targets import (
    AGENT_TARGETS,
    AGENT_TITLES,
    FIGURE_TITLES,
    LEGACY,
    PEER_TITLES,
    SERVER_TITLES,
    TARGETS,
)

Figures: TypeAlias = Mapping[str, Any]

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "explanation" / "performance.md", DOCS / "how-to" / "more-cores.md")
FIGURES = DOCS / "explanation" / "performance" / "figures.json"
_BLOCK = re.compile(r"(?<=^% figures: )(\w+) (\w+)\n.*?(?=^% end of figures$)", re.MULTILINE | re.DOTALL)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join([_row(*head), _row(*["---"] * len(head)), *(_row(*row) for row in rows)])


def _agents(figures: Figures) -> str:
    peers = [name for name in PEER_TITLES if any(name in row for row in figures.values())]
    rows = []
    for what, row in figures.items():
        found = {name: Ratio(**row[name]) for name in peers if name in row}
        cells = [str(found[name]) if name in found else "" for name in peers]
        target = AGENT_TARGETS[what]
        met = "" if LEGACY not in found else ", met" if found[LEGACY].low <= target else ", missed"
        rows.append((AGENT_TITLES[what], *cells, f"≤ {target:.2f}{met}"))
    return _table(("", *(f"to {PEER_TITLES[name]}" for name in peers), "target to the legacy server"), rows)


def _million(figures: Figures) -> str:
    """CPU hours of a million calls: microseconds of a call, divided by the seconds of an hour."""
    rows = []
    for what, row in figures.items():
        ours = next(iter(row.values()))["ours"]
        rows.append((AGENT_TITLES[what], f"{ours / 1000:.1f}", f"{ours / 3600:.2f}"))
    return _table(("", "CPU time of a call, in ms", "CPU hours of a million calls"), rows)


def _servers(figures: Figures) -> str:
    peers = [name for name in SERVER_TITLES if any(name in row for row in figures.values())]
    rows = [
        (title, *(str(Ratio(**figures[name][peer])) if peer in figures[name] else "" for peer in peers))
        for name, title in FIGURE_TITLES.items()
        if name in figures
    ]
    return _table(("", *(f"to {SERVER_TITLES[name]}" for name in peers)), rows)


def _targets(figures: Figures) -> str:
    rows = []
    for target in TARGETS:
        if target.peer and target.peer in figures.get(target.figure, {}):
            ratio = Ratio(**figures[target.figure][target.peer])
            goal = f"{'≥' if target.more_is_better else '≤'} {target.target:g}"
            what = f"{FIGURE_TITLES[target.figure]}, to {SERVER_TITLES[target.peer]}"
            rows.append((what, goal, str(ratio), "met" if target.reached(ratio) else "missed"))
    return _table(("what", "target", "measured", ""), rows)


TABLES: dict[str, Callable[[Figures], str]] = {
    "ratios": _agents,
    "million": _million,
    "servers": _servers,
    "targets": _targets,
}
"""How each kind of table is made."""


def render(text: str, runs: Figures) -> str:
    """Return a page with its blocks made from these runs.

    Raises:
        KeyError: there are no figures of a block.
    """

    def block(found: re.Match[str]) -> str:
        name, table = found.groups()
        run = runs[name]
        machine = f"{run['machine']}, load average {run['load']}"
        origin = f"Measured on {run['date']}, at commit `{run['commit']}` ({machine})."
        return f"{name} {table}\n\n{TABLES[table](run['figures'])}\n\n{origin}\n\n"

    return _BLOCK.sub(block, text)


def main() -> None:
    """Take the figures over."""
    runs = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    runs |= {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RUNS.glob("*.json"))}
    FIGURES.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    for page in PAGES:
        page.write_text(render(page.read_text(encoding="utf-8"), runs), encoding="utf-8")
    print(f"taken over: {', '.join(runs)}")


if __name__ == "__main__":
    main()
