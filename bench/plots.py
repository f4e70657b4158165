"""Draws the plots of the docs from `bench/figures.json`, which a full run has written: `python -m bench.plots FOLDER`.

Needs matplotlib, which is in the dependency group `bench`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TypeAlias

import matplotlib
from matplotlib import pyplot

from .report import FIGURES
from .targets import OURS

Figures: TypeAlias = dict[str, dict[str, float]]

_COLOURS = {
    OURS: "#b3452c",
    "vf_legacy": "#4c6a92",
    "vf_v1": "#8fa7c4",
    "aiohttp_bare": "#9c9c9c",
    "trio_h11": "#6f8f5f",
    "trio_httptools": "#b5c9a8",
    "aimock": "#d0a748",
    "litellm_proxy": "#7d6a91",
}
_NAMES = {
    OURS: "triocept",
    "vf_legacy": "verifiers, legacy (aiohttp)",
    "vf_v1": "verifiers, v1",
    "aiohttp_bare": "aiohttp, bare",
    "trio_h11": "trio and h11, nothing else",
    "trio_httptools": "trio and httptools, nothing else",
    "aimock": "aimock (Node)",
    "litellm_proxy": "litellm proxy",
}
_PLOTS = {
    "answers": (
        "Answers in a second",
        ["req/s c=1 4KB", "req/s c=32 4KB", "req/s c=256 4KB", "req/s c=32 64KB", "req/s c=256 64KB"],
    ),
    "streams": ("Chunks of streams in a second, 50 clients", ["chunks/s"]),
    "memory": ("KiB for each request that waits, with a body of 64 KiB", ["KiB per waiting request"]),
}


def draw(figures: Figures, name: str, folder: Path) -> None:
    """One plot: a group of bars for each figure, a bar for each server."""
    title, rows = _PLOTS[name]
    rows = [row for row in rows if row in figures]
    servers = [server for server in _NAMES if any(server in figures[row] for row in rows)]
    height = 1.2 + 0.26 * len(rows) * (len(servers) + 0.8)
    canvas, axes = pyplot.subplots(figsize=(7.5, height))
    at, ticks = 0.0, []
    for row in rows:
        ticks.append((at + len(servers) / 2 - 0.5, row.split(" ", 1)[1] if len(rows) > 1 else ""))
        for server in servers:
            if (value := figures[row].get(server)) is not None:
                axes.barh(at, value, color=_COLOURS[server], height=0.85)
                axes.text(
                    value, at, f" {value:,.3g}" if value < 100 else f" {value:,.0f}", va="center", size=7
                )
            at += 1
        at += 0.8
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks], size=8)
    axes.invert_yaxis()
    axes.set_title(title, size=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    patches = [pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS[server]) for server in servers]
    names = [_NAMES[server] for server in servers]
    canvas.legend(patches, names, fontsize=7, frameon=False, loc="lower center", ncols=4)
    canvas.tight_layout(rect=(0, 0.5 / height, 1, 1))  # inches for the legend
    canvas.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(canvas)


def main() -> None:
    """Draw all of them."""
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "triocept"  # the same figures are the same file
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    for name in _PLOTS:
        draw(figures, name, folder)


if __name__ == "__main__":
    main()
