"""The rows: which figure of ours, against which peer's, and how far it shall get.

Two marks for each. `floor` is what the design that stands now must hold: hypercorn and an ASGI front, nothing faster.
`target` is where it shall go. Rows without a peer are absolute, and there the ratio is the figure itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from .dialects import NAMES
from .ratios import LEAST_PAIRS, Ratio

OURS, LEGACY = "triocept", "vf_legacy"
ALONE = "alone"
"""Stands for the peer of a figure that is not divided by another server's."""
SERVER_TITLES = {
    LEGACY: "verifiers' legacy server",
    "vf_v1": "its v1 server",
    "aiohttp_bare": "aiohttp, bare",
    "aimock": "aimock",
    "litellm_proxy": "the litellm proxy",
}
"""The peers of `python -m bench` that have a column in the documentation."""
PEER_TITLES = {
    LEGACY: "verifiers' legacy server",
    "vf_newest": "its v1 server",
    "aimock": "aimock",
    "mitmproxy": "mitmproxy",
    "litellm": "the litellm proxy",
}
"""The peers of `bench.replay`."""
CHAT_TURNS = "chat"
AGENT_TITLES = {
    "claude_code": "Claude Code",
    "opencode": "opencode",
    "codex": "Codex",
    CHAT_TURNS: "turns 480 to 500 of a chat",
}
AGENT_TARGETS = {"claude_code": 0.40, "opencode": 0.50, "codex": 0.60, CHAT_TURNS: 0.20}
"""Most that the ratio of the CPU of a recorded call to the legacy server's may be."""


DIALECT_TITLES = {
    "openai_chat": "chat completions",
    "openai_completions": "completions",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
    "gemini": "Gemini",
    "ollama": "Ollama",
}
FIGURE_TITLES = {
    "calls/CPU s c=1 4KB": "calls, 1 connection, 4 KiB",
    "calls/CPU s c=32 4KB": "calls, 32 connections, 4 KiB",
    "calls/CPU s c=256 4KB": "calls, 256 connections, 4 KiB",
    "calls/CPU s c=1 64KB": "calls, 1 connection, 64 KiB",
    "calls/CPU s c=32 64KB": "calls, 32 connections, 64 KiB",
    "calls/CPU s c=256 64KB": "calls, 256 connections, 64 KiB",
    "calls/CPU s c=1 5MB": "calls, 1 connection, 5 MiB",
    "chunks/CPU s": "chunks, 50 streams",
    **{
        f"calls/CPU s {name}": f"calls, 32 connections, 4 KiB, {title}"
        for name, title in DIALECT_TITLES.items()
    },
    **{f"chunks/CPU s {name}": f"chunks, 20 streams, {title}" for name, title in DIALECT_TITLES.items()},
    "release CPU ms": "CPU time to answer 2,000 waiting requests",
    "KiB per waiting request": "memory of a waiting request of 64 KiB",
}
"""Figures that the documentation shows as ratios to other servers."""


@dataclass(frozen=True)
class Target:
    """A row."""

    figure: str
    peer: str | None
    """None: absolute."""
    target: float
    floor: float | None = None
    more_is_better: bool = True

    @property
    def name(self) -> str:
        """What the row is called in `results.json`."""
        return f"{self.figure} vs {self.peer}" if self.peer else self.figure

    def met(self, ratio: float, mark: float | None = None) -> bool:
        """Whether `ratio` is good enough for the target, or for another mark."""
        goal = self.target if mark is None else mark
        return ratio >= goal if self.more_is_better else ratio <= goal

    def reached(self, ratio: Ratio) -> bool:
        """Whether the median of pairs, or its interval, is good enough for the target."""
        if ratio.pairs < LEAST_PAIRS:
            return self.met(ratio.median)
        return self.met(ratio.high if self.more_is_better else ratio.low)


TARGETS = [
    Target("calls/CPU s c=1 4KB", LEGACY, 1.0, floor=0.44),
    Target("calls/CPU s c=32 4KB", LEGACY, 0.75, floor=0.17),
    Target("calls/CPU s c=256 4KB", LEGACY, 0.9, floor=0.25),
    Target("calls/CPU s c=32 64KB", LEGACY, 1.3, floor=0.68),
    Target("calls/CPU s c=32 4KB", "vf_v1", 5.0),
    Target("chunks/CPU s", LEGACY, 1.5, floor=0.46),
    # Against its chat completions, the only dialect that it has.
    *(Target(f"calls/CPU s {dialect}", LEGACY, 0.9) for dialect in NAMES),
    *(Target(f"chunks/CPU s {dialect}", LEGACY, 1.5) for dialect in NAMES),
    Target("calls/CPU s c=1 5MB", LEGACY, 1.5),
    Target("release CPU ms", LEGACY, 1.0, more_is_better=False),
    Target("KiB per waiting request", None, 120.0, more_is_better=False),
    Target("up ms", None, 2.0, more_is_better=False),
    Target("down ms", None, 1.0, more_is_better=False),
    Target("100 at once s", None, 0.5, more_is_better=False),
    Target("descriptors left", None, 0.0, more_is_better=False),
    Target("stall ms", None, 5.0, more_is_better=False),
    Target("growth of recording", None, 1.5, more_is_better=False),
    Target("two processes on two cores", None, 1.8),
    Target("crowd lost", None, 0.0, more_is_better=False),
]
