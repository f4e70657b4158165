"""Seeds and batches; what fails is shrunk and printed."""

import gc
import json
import shlex
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio
import trio.testing
from trio._core import _run as trios

from .kind import Input, Kind, Unfit, Violation
from .shrink import shrink

FAILED = Path(__file__).with_name("failed.jsonl")
"""Inputs that once failed: a line `{"kind": …, "why": …, "input": …}` each."""
TRIES = 2000
"""Inputs that are tried to shrink one."""
EVERY = 60.0
"""Seconds between two lines that say how far it is."""
SHRINK_SECONDS = 20.0
"""Real ones, for each of the two ways to shrink."""


@dataclass
class Failure:
    """An input that has broken a rule."""

    kind: str
    number: int
    value: Input
    violation: Violation
    first: int | None = None
    """Where it needs those before it: the number of the first of them."""


@dataclass
class Report:
    """What a kind has done."""

    kind: str
    inputs: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.inputs / self.seconds if self.seconds else 0.0
        return f"{self.kind}: {self.inputs:,} inputs, {rate:,.0f} a second, {len(self.failures)} failures"


def input_of(kind: Kind, seed: int, number: int) -> Input:
    """The input of this number, as it would be printed and read again."""
    return json.loads(json.dumps(kind.generate(Random(f"{seed}/{kind.name}/{number}"))))


def run(
    kind: Kind,
    seed: int,
    *,
    start: int = 0,
    inputs: int | None = None,
    seconds: float | None = None,
    most_failures: int = 5,
) -> Report:
    """Try so many inputs, or as many as there is time for; go on behind one that fails."""
    report, began, number = Report(kind.name), time.monotonic(), start
    due = began + EVERY
    gc.freeze()  # what the imports left is never garbage: to look through it takes half a second each time
    until = began + seconds if seconds is not None else None
    while (inputs is None or number < start + inputs) and (until is None or time.monotonic() < until):
        most = kind.batch if inputs is None else min(kind.batch, start + inputs - number)
        first, number, found = number, *_batch(kind, seed, number, most, until)
        report.inputs += number - first
        report.seconds = time.monotonic() - began
        if time.monotonic() > due:
            due += EVERY
            print(f"… {report}", flush=True)
        if found is not None:
            report.failures.append(_explained(kind, seed, first, number, found))
            print(told(report.failures[-1], seed), flush=True)
            if len(report.failures) >= most_failures:
                break
    return report


def _batch(kind: Kind, seed: int, start: int, most: int, until: float | None) -> tuple[int, Violation | None]:
    """Try inputs from `start` on. The number behind the last, and what was wrong."""
    number = start

    async def main() -> None:
        nonlocal number
        async with kind.open_check() as check:
            for at in range(start, start + most):
                number = at + 1
                with suppress(Unfit):
                    await check(input_of(kind, seed, at))
                if until is not None and time.monotonic() > until:
                    return

    violation = _violation(main, f"{seed}/{start}")
    return number, violation


def _violation(main: Callable[[], Awaitable[None]], seed: str) -> Violation | None:
    """What is wrong in a run of its own, in which chance is that of the seed."""
    before = trios._ALLOW_DETERMINISTIC_SCHEDULING, trios._r.getstate()
    trios._ALLOW_DETERMINISTIC_SCHEDULING = True  # tasks that are ready at once run in an order of chance
    trios._r.seed(seed)
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseException as exc:
        found = _found(exc)
        if found is None:
            raise
        return found
    finally:
        trios._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        trios._r.setstate(before[1])
    return None


def _found(exc: BaseException) -> Violation | None:
    """The violation in an error, in whatever groups; any other exception is one, too."""
    if isinstance(exc, Violation):
        return exc
    if isinstance(exc, BaseExceptionGroup):
        return next((found for inner in exc.exceptions if (found := _found(inner)) is not None), None)
    if isinstance(exc, Exception):
        violation = Violation("an exception leaves the endpoint", f"{type(exc).__name__}: {exc!s:.500}")
        violation.__cause__ = exc
        return violation
    return None


def again(kind: Kind, values: Iterable[Input], seed: str = "0") -> Violation | None:
    """Try these inputs, one after the other, in a run of their own."""

    async def main() -> None:
        async with kind.open_check() as check:
            for value in values:
                with suppress(Unfit):
                    await check(value)

    return _violation(main, seed)


def _explained(kind: Kind, seed: int, first: int, number: int, violation: Violation) -> Failure:
    """The failure, its input as short as can be."""
    value = input_of(kind, seed, number - 1)
    alone = again(kind, [value], f"{seed}/{first}")
    if alone is None or alone.rule != violation.rule:
        for at in range(number - 2, max(first, number - 60) - 1, -1):  # it may be one before
            other = input_of(kind, seed, at)
            if (alone := again(kind, [other])) is not None and alone.rule == violation.rule:
                return _shrunk(kind, at, other, alone)
        return Failure(kind.name, number - 1, value, violation, first)
    return _shrunk(kind, number - 1, value, alone)


def _shrunk(kind: Kind, number: int, value: Input, violation: Violation) -> Failure:
    """Shrunk within one run, where that will do: most inputs leave nothing. Then in a run for each try."""
    for shrunk in (
        _shrunk_in_one_run(kind, value, violation.rule),
        _shrunk_in_many(kind, value, violation.rule),
    ):
        smallest = next(shrunk)
        found = again(kind, [smallest])
        if found is not None and found.rule == violation.rule:
            return Failure(kind.name, number, smallest, found)
    return Failure(kind.name, number, value, violation)


def _shrunk_in_one_run(kind: Kind, value: Input, rule: str) -> Iterator[Input]:
    smallest, until = value, time.monotonic() + SHRINK_SECONDS

    async def main() -> None:
        nonlocal smallest

        async def fails(smaller: Input) -> bool:
            nonlocal smallest
            try:
                if time.monotonic() < until:
                    await check(smaller)
            except Unfit:
                return False
            except Violation as found:
                if found.rule == rule:
                    smallest = smaller
                return found.rule == rule
            return False

        async with kind.open_check() as check:
            await shrink(value, fails, TRIES)

    _violation(main, "0")
    yield smallest


def _shrunk_in_many(kind: Kind, value: Input, rule: str) -> Iterator[Input]:
    until = time.monotonic() + SHRINK_SECONDS

    async def fails(smaller: Input) -> bool:
        found = again(kind, [smaller]) if time.monotonic() < until else None
        return found is not None and found.rule == rule

    try:
        shrink(value, fails, TRIES).send(None)  # it waits for nothing
    except StopIteration as done:
        yield done.value


def told(failure: Failure, seed: int) -> str:
    """Return what is printed of a failure: its seed, how to run it again, and last, as it may be long, the input."""
    line = json.dumps({"kind": failure.kind, "input": failure.value})
    command = f"python -m tests.fuzz --seed {seed} --only {failure.kind}"
    if failure.first is None:
        what = "the shortest input that still fails"
        command = f"{command} --start {failure.number} --inputs 1"
    else:
        what = "it fails only behind those before it; alone it is"
        command = f"{command} --start {failure.first} --inputs {failure.number - failure.first + 1}"
    told = f"seed {seed}, {failure.kind}, input {failure.number}: {failure.violation}"
    return f"{told}\nagain: {command}\n{what}:\n  python -m tests.fuzz --again {shlex.quote(line)}"


def failed_once() -> list[tuple[str, str, Input]]:
    """The kind, the lesson and the input of each that once failed."""
    lines = FAILED.read_text().splitlines() if FAILED.exists() else []
    return [(each["kind"], each["why"], each["input"]) for each in map(json.loads, lines)]
