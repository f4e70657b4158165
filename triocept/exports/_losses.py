"""What an export could not say: counted by name, so that nobody takes silence for a whole."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, final

__all__ = ["Loss", "Losses"]


class Loss(NamedTuple):
    """One kind of what a format has no words for."""

    one: str
    many: str
    fate: str = "left out"
    """What became of it."""


@final
class Losses:
    """What exports could not say. `str(losses)` is what the command says last: `left out: 1 custom tool call`."""

    def __init__(self) -> None:
        self._counts: Counter[Loss] = Counter()

    def add(self, loss: Loss, times: int = 1) -> None:
        """So many more of this kind."""
        if times:
            self._counts[loss] += times

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind, by its plural: `{"custom tool calls": 1}`."""
        return {loss.many: count for loss, count in self._counts.items()}

    def __bool__(self) -> bool:
        """Whether anything was lost."""
        return bool(self._counts)

    def __str__(self) -> str:
        fates: dict[str, list[str]] = {}
        for loss, count in self._counts.items():
            fates.setdefault(loss.fate, []).append(f"{count} {loss.one if count == 1 else loss.many}")
        return "; ".join(f"{fate}: {', '.join(words)}" for fate, words in fates.items())

    def __repr__(self) -> str:
        return f"<Losses {self or 'none'}>"


BLOBS = Loss("opaque blob of reasoning", "opaque blobs of reasoning")
CHILDREN = Loss("child rollout's place in its parent", "child rollouts' places in their parents")
CUSTOM_CALLS = Loss("call of a custom tool", "calls of custom tools", "as a call of a function")
CUSTOM_TOOLS = Loss("custom tool", "custom tools", "as a function of one text")
FAILED_CALLS = Loss("call that was not answered", "calls that were not answered")
FREE_ARGUMENTS = Loss(
    "call's arguments that are no object", "calls' arguments that are no object", "wrapped in one"
)
LATE_RESULTS = Loss("result without its call", "results without their calls", "as a message")
MARKS_OF_ERRORS = Loss("mark of a tool's error", "marks of tools' errors")
MEDIA = Loss("image, sound or file", "images, sounds and files")
OPAQUE = Loss("part that only its own dialect can read", "parts that only their own dialect can read")
REASONING = Loss("piece of reasoning", "pieces of reasoning")
REFUSALS = Loss("refusal in the model's words", "refusals in the model's words", "as text")
SERVER_TOOLS = Loss("tool that its provider runs", "tools that their provider runs")
SERVICE_CALLS = Loss("service call", "service calls")
