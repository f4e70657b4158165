"""Compute statistics of scores: means with 95 % intervals, pass@k, and sums of tokens, cost and time.

Rules:

1. The mean of a score is the mean of the task means, so each task has the same weight, however many samples are scored.
2. The standard error is clustered by task (E. Miller, "Adding Error Bars to Evals", arXiv 2411.00640, appendix A). For
   C tasks, it is multiplied by `sqrt(C / (C - 1))`, because it would be too small for few tasks otherwise. For a mean
   of task means, the result equals the standard deviation of the task means divided by `sqrt(C)`.
3. If all scores are 0 or 1, the 95 % interval is a Wilson interval with the effective sample size `mean * (1 - mean) /
   stderr**2` (Korn and Graubard), at most the number of samples. If all scores are equal, the effective sample size is
   C. For other scores, the interval is `mean ± t * stderr`. Both intervals use Student's t with C - 1 degrees of
   freedom.
4. pass@k and pass^k are the unbiased estimates (Chen et al., arXiv 2107.03374; Yao et al., arXiv 2406.12045), as means
   over the tasks with at least k scored samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import atan2, ceil, comb, cos, exp, isfinite, lgamma, log, log1p, pi, sin, sqrt
from statistics import NormalDist, mean, stdev
from typing import Literal, TypeAlias

import msgspec

from .._canonical.content import Json
from ..errors import TrioceptError
from ._types import EvaluationResults, Sample, Task

Values: TypeAlias = Mapping[str, Sequence[float]]
"""The values of one score in the scored samples, by the task's id."""
LEVEL = 0.95
"""Confidence level of the intervals."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over tasks, with its standard error and its 95 % interval."""

    mean: float
    stderr: float | None = None
    """Standard error of the mean; None if there is only one task."""
    low: float | None = None
    """Lower end of the 95 % interval. None if the interval cannot be estimated, that is, for one task, or if the
    standard error is 0."""
    high: float | None = None
    interval: Literal["t", "wilson"] | None = None
    tasks: int
    """Number of tasks over which the mean was computed: the tasks with at least one scored sample."""
    samples: int


class PassRate(msgspec.Struct, frozen=True, kw_only=True):
    """The value of pass@k or pass^k for one k: a mean over tasks."""

    k: int
    value: float | None
    """The mean over the tasks; None if no task has k scored samples."""
    tasks: int
    """Number of tasks with at least k scored samples."""
    left_out: int
    """Number of tasks with fewer than k scored samples. The mean leaves these tasks out."""


class ScoreSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of one score: its mean with an interval, and its pass rates."""

    name: str
    estimate: Estimate | None
    """The mean of the score; None if no sample has the score."""
    scored: int
    planned: int
    unscored_as_0: float
    """The mean that would result if each planned sample without this score had the value 0."""
    unscored_as_1: float
    pass_at: tuple[PassRate, ...]
    """pass@k for k = 1, and for k = the number of planned samples of each task."""
    pass_all: tuple[PassRate, ...]
    """pass^k for the same values of k as in `pass_at`."""

    def document(self) -> dict[str, Json]:
        estimate = self.estimate
        return {
            **{name: getattr(estimate, name, None) for name in ("mean", "stderr", "low", "high", "interval")},
            "tasks": estimate.tasks if estimate is not None else 0,
            "scored": self.scored,
            "planned": self.planned,
            "unscored_as_0": self.unscored_as_0,
            "unscored_as_1": self.unscored_as_1,
            "pass_at_1": self.pass_at[0].value,
            "pass_at_k": msgspec.to_builtins(self.pass_at),
            "pass_all_k": msgspec.to_builtins(self.pass_all),
        }


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of turns, tokens, cost and seconds over samples, including samples without a score."""

    samples: int
    turns: int
    input_tokens: int
    output_tokens: int
    estimated: bool
    """True if some of the tokens are estimated."""
    cost: float | None
    """Sum of the costs; None if no sample has a cost."""
    seconds: float


def estimate_of(values: Values) -> Estimate | None:
    """Return the mean of the task means, with its interval. Return None if there are no values.

    Raises:
        ValueError: a value is not a finite number.
    """
    for task, each in values.items():
        if not all(map(isfinite, each)):
            raise ValueError(f"task {task!r} has a score that is not a finite number: {list(each)}")
    means = [mean(each) for each in values.values() if each]
    if not means:
        return None
    samples = sum(map(len, values.values()))
    found = _estimate(means, samples)
    if found.stderr is None or not all(value in (0, 1) for each in values.values() for value in each):
        return found
    low, high = _wilson(found.mean, found.stderr, len(means), samples)
    return msgspec.structs.replace(found, low=low, high=high, interval="wilson")


def _estimate(means: Sequence[float], samples: int) -> Estimate:
    """Return the mean of `means`, the means of the tasks, with an interval by Student's t."""
    count, middle = len(means), mean(means)
    error = stdev(means) / sqrt(count) if count > 1 else None
    if not error:
        return Estimate(mean=middle, stderr=error, tasks=count, samples=samples)
    half = t_quantile(LEVEL, count - 1) * error
    return Estimate(
        mean=middle,
        stderr=error,
        low=middle - half,
        high=middle + half,
        interval="t",
        tasks=count,
        samples=samples,
    )


def difference_of(before: Mapping[str, float], after: Mapping[str, float]) -> Estimate | None:
    """Return the mean of `after - before` over the tasks that are in both dicts; None if no task is in both."""
    differences = [after[task] - value for task, value in before.items() if task in after]
    return _estimate(differences, len(differences)) if differences else None


def task_means(values: Values) -> dict[str, float]:
    return {task: mean(each) for task, each in values.items() if each}


def tasks_needed(stderr: float, tasks: int, difference: float, power: float = 0.8) -> int:
    """Return the number of tasks that are needed to detect a difference of the size `difference`.

    With this number of tasks, a test at the 5 % level detects the difference with the probability `power`. `stderr` is
    the standard error of a paired difference that was computed from `tasks` tasks.
    """
    normal = NormalDist()
    z = normal.inv_cdf((1 + LEVEL) / 2) + normal.inv_cdf(power)
    return max(2, ceil((z * stderr / difference) ** 2 * tasks))


def p_value(estimate: Estimate) -> float | None:
    """Return the two-sided p value of the t test of the hypothesis that the mean is 0.

    Return None if the standard error is None or 0.
    """
    if not estimate.stderr:
        return None
    return max(0.0, 1 - _t_central(estimate.mean / estimate.stderr, estimate.tasks - 1))


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p value of the exact sign test, if `better` tasks became better and `worse` tasks worse."""
    count = better + worse
    tail = sum(comb(count, each) for each in range(min(better, worse) + 1))
    return min(1.0, tail / (1 << count) * 2)


def pass_at(values: Values, k: int) -> PassRate:
    """Return pass@k: the probability that at least one of k samples of a task has a value of 1 or more."""
    return _pass_rate(values, k, lambda n, c: 1 - comb(n - c, k) / comb(n, k))


def pass_all(values: Values, k: int) -> PassRate:
    """Return pass^k: the probability that all of k samples of a task have a value of 1 or more."""
    return _pass_rate(values, k, lambda n, c: comb(c, k) / comb(n, k))


def _pass_rate(values: Values, k: int, rate: Callable[[int, int], float]) -> PassRate:
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    enough = [each for each in values.values() if len(each) >= k]
    rates = [rate(len(each), sum(value >= 1 for value in each)) for each in enough]
    return PassRate(
        k=k,
        value=mean(rates) if rates else None,
        tasks=len(rates),
        left_out=len(values) - len(rates),
    )


def summary_of(results: EvaluationResults, name: str) -> ScoreSummary:
    values, number = results.values(name), results.samples_per_task
    scored, planned = sum(map(len, values.values())), results.planned
    low = sum(map(sum, values.values()))
    ks = dict.fromkeys((1, number))
    return ScoreSummary(
        name=name,
        estimate=estimate_of(values),
        scored=scored,
        planned=planned,
        unscored_as_0=low / planned,
        unscored_as_1=(low + planned - scored) / planned,
        pass_at=tuple(pass_at(values, k) for k in ks),
        pass_all=tuple(pass_all(values, k) for k in ks),
    )


def summaries_of(results: EvaluationResults) -> list[ScoreSummary]:
    """Return the statistics of each score.

    A scorer that gave no score at all has statistics without values.
    """
    return [summary_of(results, name) for name in (*results.score_names, *results.silent_scorers)]


def used_by(samples: Iterable[Sample]) -> Used:
    samples = list(samples)
    costs = [each.cost for each in samples if each.cost is not None]
    return Used(
        samples=len(samples),
        turns=sum(each.turns for each in samples),
        input_tokens=sum(each.input_tokens for each in samples),
        output_tokens=sum(each.output_tokens for each in samples),
        estimated=any(each.estimated for each in samples),
        cost=sum(costs) if costs else None,
        seconds=sum(each.seconds for each in samples),
    )


def groups_of(results: EvaluationResults, by: Sequence[str]) -> dict[tuple[str, ...], EvaluationResults]:
    """Return the results of each group of tasks, by the group's labels.

    Each item of `by` is `task` or `metadata.KEY`, and determines one label of the group: the task's id, or the value of
    KEY in the task's metadata. If a task's metadata has no KEY, the label is `-`.

    Raises:
        TrioceptError: a KEY in `by` is in no task's metadata.
    """
    for name in by:
        key = name.removeprefix("metadata.")
        if name != "task" and not any(key in task.metadata for task in results.tasks):
            keys = ", ".join(dict.fromkeys(key for task in results.tasks for key in task.metadata))
            raise TrioceptError(f"no task has metadata.{key}; the keys of the metadata are: {keys or 'none'}")
    labels = {task.id: tuple(_label(task, name) for name in by) for task in results.tasks}
    tasks: dict[tuple[str, ...], list[Task]] = {}
    samples: dict[tuple[str, ...], list[Sample]] = {label: [] for label in labels.values()}
    for task in results.tasks:
        tasks.setdefault(labels[task.id], []).append(task)
    for sample in results.samples:
        samples[labels[sample.task]].append(sample)
    return {
        label: msgspec.structs.replace(results, tasks=tuple(each), samples=tuple(samples[label]))
        for label, each in tasks.items()
    }


def _label(task: Task, by: str) -> str:
    value = task.id if by == "task" else task.metadata.get(by.removeprefix("metadata."))
    if value is None:
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _wilson(middle: float, error: float, tasks: int, samples: int) -> tuple[float, float]:
    spread = middle * (1 - middle)
    size = min(spread / error**2, samples) if error else samples if spread else tasks
    t = t_quantile(LEVEL, tasks - 1)
    centre = middle + t * t / (2 * size)
    half = t * sqrt(spread / size + (t / (2 * size)) ** 2)
    scale = 1 + t * t / size
    low, high = (centre - half) / scale, (centre + half) / scale
    return max(0.0, min(low, middle)), min(1.0, max(high, middle))  # rounding may leave the mean outside


@lru_cache(maxsize=256)
def t_quantile(level: float, df: int) -> float:
    """Return the t for which `|T| <= t` has the probability `level`, where T has Student's t distribution.

    `df` is the number of degrees of freedom.
    """
    scale = lgamma((df + 1) / 2) - lgamma(df / 2) - log(df * pi) / 2
    t = NormalDist().inv_cdf((1 + level) / 2)
    for _ in range(100):  # Newton's method: it starts below t, so it approaches t without overshoot
        density = exp(scale - (df + 1) / 2 * log1p(t * t / df))
        step = (level - _t_central(t, df)) / (2 * density)
        t += step
        if abs(step) < 1e-13 * t:
            break
    return t


def _t_central(t: float, df: int) -> float:
    """Return the probability of `|T| <= |t|`, where T has Student's t distribution with `df` degrees of freedom.

    The formulas are 26.7.3 and 26.7.4 of M. Abramowitz, I. Stegun.
    """
    angle, odd = atan2(abs(t), sqrt(df)), df % 2
    square = cos(angle) ** 2
    term, total = cos(angle) if odd else 1.0, 0.0
    for number in range(2 + odd, df + 1, 2):
        total += term
        term *= square * (number - 1) / number
    found = sin(angle) * total
    return 2 / pi * (angle + found) if odd else found
