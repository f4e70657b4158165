"""A sample of mutants, one after the other, for as long as there is time; and what is said of it.

A file's share of a sample is its share of all mutants, and any beginning of the sample has them spread over the files:
each file's mutants are shuffled, and laid evenly over the line from 0 to 1.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from .equivalent import EQUIVALENT, Change, change_of, diff_of
from .possible import Mutant, mutated, says_another
from .stage import Stage
from .table import folder_of, tests_of

SPARE = 20.0
"""Seconds that a run may take beside three times what it took without the mutant: a busy machine is no kill."""


class Fate(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "killed: it hung"
    SURVIVED = "SURVIVED"
    EQUIVALENT = "says the same"
    UNFINISHED = "not finished: the time is over"


@dataclass(frozen=True, kw_only=True)
class Result:
    mutant: Mutant
    fate: Fate
    seconds: float = 0.0
    diff: str = ""
    note: str = ""
    """Why it says the same, or the test that has killed it."""


class FailsUnchanged(Exception):
    """The tests fail without a mutant, so nothing can be said of one."""


def sampled(mutants: Sequence[Mutant], seed: int) -> list[Mutant]:
    """All of them, in the order of the seed; a sample is a beginning of that."""
    placed = []
    for file, group in groupby(sorted(mutants), key=lambda mutant: mutant.file):
        chance = random.Random(f"{seed} {file}")
        shuffled = list(group)
        chance.shuffle(shuffled)
        placed += [((rank + chance.random()) / len(shuffled), mutant) for rank, mutant in enumerate(shuffled)]
    return [mutant for _, mutant in sorted(placed)]


class Session:
    """The runs in one copy: `tests` are those of a file, `equivalent` the mutants that no test can kill."""

    def __init__(
        self,
        stage: Stage,
        *,
        seconds: float,
        tests: Callable[[str], tuple[str, ...]] = tests_of,
        equivalent: dict[Change, str] | None = None,
    ) -> None:
        self._stage, self._tests = stage, tests
        self._equivalent = EQUIVALENT if equivalent is None else equivalent
        self._ends = time.monotonic() + seconds
        self._usual: dict[tuple[str, ...], float] = {}

    @property
    def left(self) -> float:
        """Seconds until the time is over."""
        return self._ends - time.monotonic()

    def judge(self, mutant: Mutant) -> Result | None:
        """Return what the tests say of a mutant; None if it is no program or the very same."""
        source = (self._stage.root / mutant.file).read_text()
        changed = mutated(source, mutant)
        if not says_another(source, changed):
            return None
        diff = diff_of(mutant.file, source, changed)
        if reason := self._equivalent.get(change_of(mutant.file, source, changed)):
            return Result(mutant=mutant, fate=Fate.EQUIVALENT, diff=diff, note=reason)
        tests = self._tests(mutant.file)
        limit = 3 * self._usual_seconds(tests) + SPARE
        if self.left <= 0:
            return Result(mutant=mutant, fate=Fate.UNFINISHED)
        with self._stage.changed(mutant.file, changed):
            ran = self._stage.run(tests, seconds=min(limit, self.left))
        fate = Fate.SURVIVED if ran.passed else Fate.KILLED
        if not ran.in_time:
            fate = Fate.TIMED_OUT if ran.seconds >= limit else Fate.UNFINISHED
        return Result(mutant=mutant, fate=fate, seconds=ran.seconds, diff=diff, note=_who_failed(ran.output))

    def _usual_seconds(self, tests: tuple[str, ...]) -> float:
        """How long they take without a mutant; once for each set of tests."""
        if tests not in self._usual and self.left > 0:
            ran = self._stage.run(tests, seconds=self.left)
            if not ran.passed and ran.in_time:
                raise FailsUnchanged(f"{' '.join(tests)} fail without a mutant:\n{ran.output}")
            self._usual[tests] = ran.seconds
        return self._usual.get(tests, 0.0)


def score(results: Iterable[Result]) -> list[str]:
    """A line for each folder, and one for all."""
    counts: dict[str, Counter[Fate]] = {}
    for result in results:
        for name in (folder_of(result.mutant.file), "in all"):
            counts.setdefault(name, Counter())[result.fate] += 1
    return [_line(name, counts[name]) for name in sorted(counts, key=lambda name: (name == "in all", name))]


def _line(name: str, fates: Counter[Fate]) -> str:
    killed = fates[Fate.KILLED] + fates[Fate.TIMED_OUT]
    judged = killed + fates[Fate.SURVIVED]
    share = f"{killed / judged:.0%}" if judged else "-"
    return f"{name:<28} {killed:>4} of {judged:<4} killed  {share:>5}   {fates[Fate.EQUIVALENT]} say the same"


def _who_failed(output: str) -> str:
    failed = [line.split(" - ")[0] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0].split(" ", 1)[1] if failed else ""
