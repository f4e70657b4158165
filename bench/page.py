"""Takes the figures of the last runs into the documentation: `python -m bench.page`.

The runs are in `bench/runs`. Their figures go into `docs/explanation/performance/figures.json`, with date, commit and
machine, and from there into the page: a block between the comments `% figures: NAME` and `% end of figures` is made
from the figures of that name. A test fails if the page differs from the figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from .ratios import Ratio
from .results import RUNS
from .targets import AGENT_TARGETS, AGENT_TITLES, LEGACY, PEER_TITLES

Figures: TypeAlias = Mapping[str, Any]

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
FIGURES = PAGE.with_name("performance") / "figures.json"
_BLOCK = re.compile(r"(?<=^% figures: )(\w+)\n.*?(?=^% end of figures$)", re.MULTILINE | re.DOTALL)


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
        met = "met" if found[LEGACY].low <= target else "missed"
        rows.append((AGENT_TITLES[what], *cells, f"≤ {target:.2f}, {met}"))
    return _table(("", *(f"to {PEER_TITLES[name]}" for name in peers), "target"), rows)


TABLES: dict[str, Callable[[Figures], str]] = {"agents": _agents, "agents_instructions": _agents}
"""How the block of each name is made."""


def render(text: str, runs: Figures) -> str:
    """Return the page with its blocks made from these runs.

    Raises:
        KeyError: there are no figures of a block.
    """

    def block(found: re.Match[str]) -> str:
        name = found[1]
        run = runs[name]
        origin = f"Measured on {run['date']} at commit `{run['commit']}` ({run['machine']})."
        return f"{name}\n\n{TABLES[name](run['figures'])}\n\n{origin}\n\n"

    return _BLOCK.sub(block, text)


def main() -> None:
    """Take the figures over."""
    runs = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    runs |= {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RUNS.glob("*.json"))}
    FIGURES.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), runs), encoding="utf-8")
    print(f"taken over: {', '.join(runs)}")


if __name__ == "__main__":
    main()
