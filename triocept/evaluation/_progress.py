"""The texts of an evaluation's progress display: number of scored samples, mean scores so far, tokens and cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import final

from .._util.figures import clock, counted, short
from ..fleets.progress import Words
from ..fleets.tally import Tally
from ._table import explained, money
from ._types import Sample, sample_failed


@final
class Counts(Words):
    """Counts of the ended samples, including samples of earlier runs.

    A sample counts as failed only if its agent's work cannot be scored, or if one of `scorers` failed.
    """

    def __init__(self, evaluation: str, scorers: Collection[str]) -> None:
        self._evaluation = evaluation
        self._scorers = scorers
        self._failure = ""
        self._scored = 0
        self._reasons: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._numbers: Counter[str] = Counter()
        self._tokens = 0
        self._estimated = False
        self._cost: float | None = None

    @property
    def unscored(self) -> int:
        return self._reasons.total()

    def add(self, sample: Sample) -> None:
        self._tokens += sample.input_tokens + sample.output_tokens
        self._estimated |= sample.estimated
        if sample.cost is not None:
            self._cost = (self._cost or 0.0) + sample.cost
        if sample.reason is not None and sample_failed(sample, self._scorers):
            self._reasons[sample.reason] += 1
            self._failure = f"{sample.task}/{sample.number}: {explained(sample)}"
        else:
            self._scored += 1
        for name, score in sample.scores.items():
            self._sums[name] += score.value
            self._numbers[name] += 1

    def name(self, tally: Tally) -> str:
        return self._evaluation

    def failure(self, tally: Tally) -> str:
        return self._failure

    def counts(self, tally: Tally, now: float, workers: int) -> str:
        """Return the counts as text.

        An example: `12 scored, 2 without score, check 0.617, 340.1k tokens, $1.20, 8 in flight`.
        """
        return ", ".join(
            [*self._ended(), f"{tally.in_flight:,} in flight", counted(workers, "worker", "workers")]
        )

    def summary(self, tally: Tally, now: float) -> str:
        return ""  # `evaluate` prints it when the last result is counted

    def line(self, planned: int, seconds: float) -> str:
        """Return the summary of the evaluation as text.

        An example: `30 of 30 in 14m02s: 28 scored, 2 without score, check 0.617, 340.1k tokens`.
        """
        ended = self._scored + self.unscored
        return f"{ended:,} of {planned:,} in {clock(seconds)}: {', '.join(self._ended())}"

    def _ended(self) -> list[str]:
        parts = [f"{self._scored:,} scored"]
        if self.unscored:
            parts.append(f"{self.unscored:,} without score")
        parts += [f"{name} {self._sums[name] / number:.3f}" for name, number in [*self._numbers.items()][:3]]
        if self._tokens:
            parts.append(f"{short(self._tokens)}{'~' if self._estimated else ''} tokens")
        if self._cost is not None:
            parts.append(money(self._cost))
        return parts
