"""Draws the plots of the documentation, from the figures that `bench.page` has taken over: `python -m bench.plots`.

Needs matplotlib, which is in the dependency group `bench`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from .page import FIGURES
from .targets import FIGURE_TITLES, OURS, SERVER_TITLES

_COLOURS = {
    OURS: "#b3452c",
    "vf_legacy": "#4c6a92",
    "vf_v1": "#8fa7c4",
    "aiohttp_bare": "#9c9c9c",
    "aimock": "#d0a748",
    "litellm_proxy": "#7d6a91",
}
_PLOTS = {
    "answers": (
        "Calls in a second of CPU time (triocept: 1)",
        [f"calls/CPU s c={connections} {size}" for size in ("4KB", "64KB") for connections in (1, 32, 256)],
    ),
    "streams": ("Chunks of 50 streams in a second of CPU time (triocept: 1)", ["chunks/CPU s"]),
}


def draw(run: dict[str, Any], name: str, folder: Path) -> None:
    """One plot: a group of bars for each figure, a bar for each server."""
    title, rows = _PLOTS[name]
    figures = run["figures"]
    servers = [OURS, *(peer for peer in SERVER_TITLES if any(peer in figures[row] for row in rows))]
    height = 1.4 + 0.26 * len(rows) * (len(servers) + 0.8)
    canvas, axes = pyplot.subplots(figsize=(7.5, height))
    at, ticks = 0.0, []
    for row in rows:
        speeds = {OURS: 1.0} | {
            peer: 1 / ratio["median"] for peer, ratio in figures[row].items() if peer in servers
        }
        ticks.append(
            (at + len(speeds) / 2 - 0.5, FIGURE_TITLES[row].split(", ", 1)[1] if len(rows) > 1 else "")
        )
        for server in servers:
            if (value := speeds.get(server)) is not None:
                axes.barh(at, value, color=_COLOURS[server], height=0.85)
                axes.text(value, at, f" {value:.2f}", va="center", size=7)
                at += 1
        at += 0.8
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks], size=8)
    axes.invert_yaxis()
    axes.set_title(title, size=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    patches = [pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS[server]) for server in servers]
    names = [SERVER_TITLES.get(server, server) for server in servers]
    canvas.legend(patches, names, fontsize=7, frameon=False, loc="lower center", ncols=4)
    axes.set_xlabel(f"{run['date']}, commit {run['commit']}", size=7)
    canvas.tight_layout(rect=(0, 0.5 / height, 1, 1))  # inches for the legend
    canvas.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(canvas)


def main() -> None:
    """Draw all of them."""
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "triocept"  # the same figures are the same file
    run = json.loads(FIGURES.read_text(encoding="utf-8"))["bench"]
    for name in _PLOTS:
        draw(run, name, FIGURES.parent)


if __name__ == "__main__":
    main()
