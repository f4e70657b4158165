"""Compare the scores of two evaluations of the same tasks.

Rules:

1. The runs A and B are paired by the task's id. The difference of a score is a mean over the tasks that have a scored
   sample in both runs. The value of a task is its mean in B minus its mean in A. The standard error is computed from
   the differences of the single tasks, so it does not matter if some tasks are harder than others.
2. A task passes in a run if at least half of its scored samples have a value of 1 or more. A task has flipped if it
   passes in only one of the runs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from math import inf
from operator import attrgetter
from statistics import mean

import msgspec

from .._canonical.content import Json
from .._util.figures import counted
from .._util.terminal import visible
from ..errors import TrioceptError
from ._statistics import (
    Estimate,
    difference_of,
    estimate_of,
    p_value,
    sign_test,
    task_means,
    tasks_needed,
)
from ._table import aligned, cut, marks_of, range_of
from ._types import EvaluationResults

MOST = 12
"""Maximum number of tasks that the text lists."""
_ALPHA = 0.05
_EDITED = attrgetter("prompt", "target", "check")


class TaskChange(msgspec.Struct, frozen=True, kw_only=True):
    """Values of one score in the samples of one task, in runs A and B."""

    task: str
    a: tuple[float, ...]
    """Values of the score in the task's samples of run A."""
    b: tuple[float, ...]
    change: float
    """Mean of the samples in run B minus mean of the samples in run A."""
    flipped: bool
    """True if the task passes in only one of the runs. It passes in a run if at least half of its scored samples have a
    value of 1 or more."""


class ScoreComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of one score in runs A and B, over all tasks."""

    name: str
    a: Estimate
    """Mean of the score in run A, over the compared tasks."""
    b: Estimate
    difference: Estimate
    """Mean of `B - A` over the compared tasks, paired by task."""
    p: float | None
    """p value of the paired t test; None if only one task is compared, or if all tasks have the same difference."""
    sign_p: float
    """p value of the exact sign test. The test counts the tasks whose mean is higher in B, and the tasks whose mean is
    lower in B.
    """
    tasks: tuple[TaskChange, ...]
    """The compared tasks, the task with the largest change first."""
    unscored: tuple[str, ...] = ()
    """Ids of the tasks that both runs contain, but that have no scored sample in one of the runs. These tasks are not
    compared.
    """
    difference_to_see: float
    tasks_needed: int | None
    """Number of tasks needed to detect a difference of `difference_to_see` with a probability of 0.8, if each task has
    as many samples as in these runs. None if this number cannot be estimated."""

    @property
    def better(self) -> tuple[TaskChange, ...]:
        """The tasks whose mean of the score is higher in B than in A."""
        return tuple(each for each in self.tasks if each.change > 0)

    @property
    def worse(self) -> tuple[TaskChange, ...]:
        """The tasks whose mean of the score is lower in B than in A."""
        return tuple(each for each in self.tasks if each.change < 0)

    @property
    def flipped(self) -> tuple[TaskChange, ...]:
        """The tasks that pass in only one of the runs."""
        return tuple(each for each in self.tasks if each.flipped)

    @property
    def verdict(self) -> str:
        """A text that states if A and B differ in this score, with the name of the test and its p value."""
        if not self.better and not self.worse:
            return "no difference in any task"
        test, p = ("sign test", self.sign_p) if self.p is None else ("t test", self.p)
        if p >= _ALPHA:
            return f"not told apart from chance ({test}, p = {p:.2g})"
        return f"B is {'higher' if self.difference.mean > 0 else 'lower'} ({test}, p {_p(p)})"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of two runs of the same tasks, A and B."""

    a: str
    """Name of run A: its directory, or the name of its evaluation."""
    b: str
    model_a: str
    model_b: str
    samples_a: int
    """Number of planned samples of each task in run A."""
    samples_b: int
    tasks: tuple[str, ...]
    """Ids of the tasks that both runs contain."""
    only_a: tuple[str, ...]
    """Ids of the tasks that only run A contains."""
    only_b: tuple[str, ...]
    edited: tuple[str, ...]
    """Ids of the tasks that both runs contain, but with another prompt, target or check in each run. These tasks are
    compared, too."""
    scores: tuple[ScoreComparison, ...]
    """Comparisons of the scores that both runs have."""
    scores_in_one: tuple[str, ...] = ()
    """Names of scores that only one run has."""

    def document(self) -> dict[str, Json]:
        """Return the comparison as JSON."""
        document = {name: getattr(self, name) for name in self.__struct_fields__ if name != "scores"}
        document["scores"] = {
            each.name: {
                **msgspec.structs.asdict(each),
                "better": [change.task for change in each.better],
                "worse": [change.task for change in each.worse],
                "flipped": [change.task for change in each.flipped],
                "verdict": each.verdict,
            }
            for each in self.scores
        }
        found: dict[str, Json] = msgspec.to_builtins(document)
        return found

    def table(self) -> str:
        """Return the comparison as text for a terminal with 80 columns."""
        lines = [cut(f"A {visible(self.a)} · {visible(self.model_a)}")]
        lines += [cut(f"B {visible(self.b)} · {visible(self.model_b)}"), *self._counts(), ""]
        lines += aligned([_HEAD, *map(_row, self.scores)], left=1)
        for each in self.scores:
            lines += ["", cut(f"{visible(each.name)}: {each.verdict}"), f"  {_changes(each)}"]
            lines += [f"  {text}" for text in _needed(each, self.samples_a, self.samples_b)]
            if each.unscored:
                lines.append(
                    cut(f"  not compared, because they have no score in one run: {_named(each.unscored)}")
                )
            rows = [(f"  {cut(visible(change.task), 40)}", *_cells(change)) for change in each.flipped[:MOST]]
            if rows:
                lines += aligned([("  flipped", "A", "B", "B-A"), *rows], left=1)
            if more := len(each.flipped) - MOST:
                lines += [f"  … {more} more"] * (more > 0)
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the comparison as Markdown."""
        lines = [f"A: `{self.a}` ({self.model_a}), B: `{self.b}` ({self.model_b})", "", *self._counts(), ""]
        lines += _markdown([_HEAD, *map(_row, self.scores)])
        for each in self.scores:
            lines += ["", f"**{each.name}**: {each.verdict}. {_changes(each)}."]
            lines += [f"{text}." for text in _needed(each, self.samples_a, self.samples_b)]
            if each.flipped:
                rows = [(change.task, *_cells(change)) for change in each.flipped]
                lines += ["", *_markdown([("flipped", "A", "B", "B-A"), *rows])]
        return "\n".join(lines)

    def csv(self) -> str:
        """Return CSV with a row for each score and task.

        If a task is only in one run, the other run's cells are empty.
        """
        file = io.StringIO()
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("score", "task", "in", "a", "b", "change", "flipped", "a_samples", "b_samples"))
        for score in self.scores:
            for each in score.tasks:
                figures = mean(each.a), mean(each.b), each.change, int(each.flipped), len(each.a), len(each.b)
                rows.writerow((score.name, each.task, "both", *figures))
            rows.writerows((score.name, task, "both", *[""] * 6) for task in score.unscored)
        for where, tasks in (("a", self.only_a), ("b", self.only_b)):
            rows.writerows(("", task, where, *[""] * 6) for task in tasks)
        return file.getvalue()

    def _counts(self) -> list[str]:
        counts = [f"{counted(len(self.tasks), 'task', 'tasks')} in both"]
        counts += [f"{len(each)} in {run} only" for run, each in (("A", self.only_a), ("B", self.only_b))]
        lines = [", ".join(counts)]
        for what, names in (
            ("in A only", self.only_a),
            ("in B only", self.only_b),
            ("another prompt, target or check in B", self.edited),
            ("scores in one run only", self.scores_in_one),
        ):
            if names:
                lines.append(cut(f"{what}: {_named(names)}"))
        return lines


def compare_results(a: EvaluationResults, b: EvaluationResults, *, difference: float = 0.1) -> Comparison:
    """Compare two evaluations, paired by the ids of their tasks.

    Args:
        a: the first run, for example `read_results("runs/qwen")`.
        b: the second run.
        difference: size of a difference, above 0. The comparison estimates how many tasks are needed to detect a
            difference of this size.

    Raises:
        TrioceptError: the runs have no task in common, one of them contains no score, or they have no score in common.
        ValueError: `difference` is not a number above 0, or a score is not a finite number.
    """
    if not 0 < difference < inf:
        raise ValueError(f"difference must be a number above 0, not {difference}")
    tasks_a, tasks_b = ({task.id: task for task in each.tasks} for each in (a, b))
    both = tuple(task for task in tasks_a if task in tasks_b)
    if not both:
        raise TrioceptError(
            f"no task is in both runs: the tasks of {_place(a)} are {_named(tuple(tasks_a))}; those of {_place(b)} "
            f"are {_named(tuple(tasks_b))}"
        )
    for each in (a, b):
        if not each.score_names:
            raise TrioceptError(
                f"{_place(each)} contains no score: {counted(len(each.samples), 'sample', 'samples')} ended, and none "
                "is scored"
            )
    names = tuple(name for name in a.score_names if name in b.score_names)
    compared = [_compare(a, b, both, name, difference) for name in names]
    scores = tuple(each for each in compared if each is not None)
    if not scores:
        raise TrioceptError(
            f"the runs cannot be compared, because no task has the same score in both: the scores of {_place(a)} are "
            f"{_named(a.score_names)}; those of {_place(b)} are {_named(b.score_names)}"
        )
    return Comparison(
        a=_place(a),
        b=_place(b),
        model_a=a.model,
        model_b=b.model,
        samples_a=a.samples_per_task,
        samples_b=b.samples_per_task,
        tasks=both,
        only_a=tuple(task for task in tasks_a if task not in tasks_b),
        only_b=tuple(task for task in tasks_b if task not in tasks_a),
        edited=tuple(task for task in both if _EDITED(tasks_a[task]) != _EDITED(tasks_b[task])),
        scores=scores,
        scores_in_one=tuple(sorted({*a.score_names, *b.score_names} - {each.name for each in scores})),
    )


def _compare(
    a: EvaluationResults, b: EvaluationResults, both: Sequence[str], name: str, difference: float
) -> ScoreComparison | None:
    """Return the comparison of the score `name`; None if no task has this score in both runs. `both` are task ids."""
    values_a, values_b = a.values(name), b.values(name)
    paired = [task for task in both if values_a[task] and values_b[task]]
    in_a, in_b = ({task: values[task] for task in paired} for values in (values_a, values_b))
    estimate_a, estimate_b = estimate_of(in_a), estimate_of(in_b)
    means_a, means_b = task_means(in_a), task_means(in_b)
    found = difference_of(means_a, means_b)
    if found is None or estimate_a is None or estimate_b is None:
        return None
    changes = [
        TaskChange(
            task=task,
            a=tuple(in_a[task]),
            b=tuple(in_b[task]),
            change=means_b[task] - means_a[task],
            flipped=_passes(in_a[task]) != _passes(in_b[task]),
        )
        for task in paired
    ]
    return ScoreComparison(
        name=name,
        a=estimate_a,
        b=estimate_b,
        difference=found,
        p=p_value(found),
        sign_p=sign_test(sum(each.change > 0 for each in changes), sum(each.change < 0 for each in changes)),
        tasks=tuple(sorted(changes, key=lambda each: -abs(each.change))),
        unscored=tuple(task for task in both if task not in in_a),
        difference_to_see=difference,
        tasks_needed=tasks_needed(found.stderr, found.tasks, difference) if found.stderr else None,
    )


def _passes(values: Sequence[float]) -> bool:
    return 2 * sum(value >= 1 for value in values) >= len(values)


def _place(results: EvaluationResults) -> str:
    return results.name if results.directory is None else str(results.directory)


_HEAD = ("score", "A", "B", "B-A", "se", "95 % interval", "p")


def _row(each: ScoreComparison) -> Sequence[str]:
    difference = each.difference
    return (
        cut(visible(each.name), 24),
        f"{each.a.mean:.3f}",
        f"{each.b.mean:.3f}",
        f"{difference.mean:+.3f}",
        "n/a" if difference.stderr is None else f"{difference.stderr:.3f}",
        range_of(difference),
        "n/a" if each.p is None else _p(each.p).removeprefix("= "),
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def _cells(change: TaskChange) -> Sequence[str]:
    return marks_of(change.a), marks_of(change.b), f"{change.change:+.3f}"


def _changes(each: ScoreComparison) -> str:
    same = len(each.tasks) - len(each.better) - len(each.worse)
    return (
        f"better {len(each.better)}, worse {len(each.worse)}, same {same}; flipped {len(each.flipped)} of "
        f"{counted(len(each.tasks), 'task', 'tasks')}"
    )


def _needed(each: ScoreComparison, samples_a: int, samples_b: int) -> list[str]:
    if each.tasks_needed is None:
        return []
    samples = f"{samples_a}" if samples_a == samples_b else f"{samples_a} and {samples_b}"
    return [
        f"to see a difference of {each.difference_to_see:g}: {each.tasks_needed:,} tasks, {samples} samples each "
        "(power 0.8)"
    ]


def _named(names: Sequence[str]) -> str:
    more = f", and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(map(visible, names[:MOST])) + more


def _markdown(rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return [lines[0], f"|{'---|' * (lines[0].count(' | ') + 1)}", *lines[1:]]
