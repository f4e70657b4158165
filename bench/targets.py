"""The rows: which figure of ours, against which peer's, and how far it shall get.

Two marks for each. `floor` is what the design that stands now must hold: hypercorn and an ASGI front, nothing faster.
`target` is where it shall go. Rows without a peer are absolute, and there the ratio is the figure itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from .dialects import NAMES

OURS, LEGACY = "triocept", "vf_legacy"
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


TARGETS = [
    Target("req/s c=1 4KB", "vf_legacy", 1.0, floor=0.44),
    Target("req/s c=32 4KB", "vf_legacy", 1.0, floor=0.17),
    Target("req/s c=256 4KB", "vf_legacy", 1.0, floor=0.25),
    Target("req/s c=32 64KB", "vf_legacy", 1.0, floor=0.68),
    Target("req/s c=1 4KB", "vf_v1", 5.0),
    Target("req/s c=32 4KB", "vf_v1", 5.0),
    Target("req/s c=256 4KB", "vf_v1", 5.0),
    Target("chunks/s", "vf_legacy", 1.0, floor=0.46),
    # Against its chat completions, the only dialect that it has.
    *(Target(f"{unit} {dialect}", "vf_legacy", 1.0) for unit in ("req/s", "chunks/s") for dialect in NAMES),
    Target("req/s c=1 5MB", "vf_legacy", 1.0),
    Target("KiB per waiting request", "vf_legacy", 0.5, more_is_better=False),
    Target("release ms", "vf_legacy", 0.3, more_is_better=False),
    Target("KiB per waiting request", None, 230.0, more_is_better=False),
    Target("up ms", None, 2.0, more_is_better=False),
    Target("down ms", None, 1.0, more_is_better=False),
    Target("100 at once s", None, 0.5, more_is_better=False),
    Target("descriptors left", None, 0.0, more_is_better=False),
    Target("stall ms", None, 5.0, more_is_better=False),
    Target("growth of recording", None, 1.15, more_is_better=False),  # flat, but for a tie's 15 %
    Target("two processes on two cores", None, 1.8),
    Target("crowd lost", None, 0.0, more_is_better=False),
]
