"""The table of an evaluation, at most 78 columns wide, and the same figures as JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import mean

from .._canonical.content import Json
from .._util.figures import clock, counted, short
from .._util.terminal import visible
from ._statistics import summary_of
from ._types import EvaluationResults, Sample

WIDTH = 78
MOST_TASKS = 12
"""Maximum tasks that the table lists."""
RULE = """\
scored: whatever the agent did, also if it failed or reached a limit.
no score: provider error, no model call, failed start or scorer, lost worker.
mean of the task means; se clustered by task; interval by t or Wilson, C-1."""


def table_of(results: EvaluationResults) -> str:
    size = f"{counted(len(results.tasks), 'task', 'tasks')} x {counted(results.samples_per_task, 'sample', 'samples')}"
    names = [visible(each) for each in (results.name, results.agent, results.model)]
    widths = [*map(len, names)]
    while sum(widths) > WIDTH - len(size) - 9:
        widths[widths.index(max(widths))] -= 1
    head = [_cut(each, width) for each, width in zip(names, widths, strict=True)]
    lines = [" · ".join([*head, size]), ""]
    lines += _scores(results)
    lines += ["", *_ends(results), "", *_tasks(results), "", *RULE.splitlines()]
    return "\n".join(lines)


def _scores(results: EvaluationResults) -> list[str]:
    number = results.samples_per_task
    passes = (f"pass@{number}", f"pass^{number}") if number > 1 else ()
    rows: list[Sequence[str]] = [("score", "mean", "se", "95 % interval", *passes, "scored")]
    notes: list[str] = []
    left_out = 0
    for name in results.score_names:
        found = summary_of(results, name)
        estimate = found.estimate
        assert estimate is not None  # each name is one of a scored sample
        low, high = (f"{each:.2f}" if each is not None else "" for each in (estimate.low, estimate.high))
        rates = (found.pass_at[-1], found.pass_all[-1]) if passes else ()
        left_out = max([left_out, *(rate.left_out for rate in rates)])
        rows.append(
            (
                _cut(visible(name), 16),
                f"{estimate.mean:.3f}",
                _figure(estimate.stderr),
                f"{low} .. {high}" if low else "n/a",
                *(f"{_figure(rate.value)}{'*' if rate.left_out else ' '}" for rate in rates),
                f"{found.scored} of {found.planned}",
            )
        )
        if found.scored < found.planned:
            bounds = f"unscored as 0: {found.unscored_as_0:.3f}, as 1: {found.unscored_as_1:.3f}"
            notes.append(f"  {_cut(visible(name), 16)}, {bounds}")
    if not results.score_names:
        return [f"no sample is scored: 0 of {results.planned}"]
    if left_out:
        tasks = counted(len(results.tasks) - left_out, "task", "tasks")
        notes.append(f"  * of the {tasks} with {number} scored samples")
    return [*_aligned(rows, left=1), *notes]


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def money(cost: float) -> str:
    return "<$0.01" if 0 < cost < 0.005 else f"${cost:,.2f}"


def _ends(results: EvaluationResults) -> list[str]:
    """Return the samples without a score by their reason, and the samples at a limit."""
    lines: list[str] = []
    reasons = Counter(str(sample.reason).replace("_", " ") for sample in results.unscored)
    if missing := results.planned - len(results.samples):
        reasons["not run"] = missing
    if reasons:
        what = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        lines.append(_cut(f"no score {reasons.total():>4}   {what}"))
    ends = Counter(sample.ended for sample in results.scored)
    for end, text in {
        "time_limit": "ended by the time limit",
        "limit": "ended by another limit",
        "failed": "agent failed",
    }.items():
        if count := ends[end]:  # type: ignore[index]
            lines.append(f"scored   {count:>4}   {text}")
    if again := sum(sample.attempts > 1 for sample in results.scored):
        lines.append(f"scored   {again:>4}   in a later attempt, after one without a score")
    return lines or ["all samples have a score, and each agent ended by itself"]


def _tasks(results: EvaluationResults) -> list[str]:
    names = results.score_names[:1]
    rows: list[Sequence[str]] = [("task", *names, "turns", "tokens", "cost", "time")]
    by_task = results.by_task()
    shown = list(by_task)[: MOST_TASKS if len(by_task) <= MOST_TASKS else MOST_TASKS - 2]
    for task in shown:
        samples = by_task[task]
        cost = [sample.cost for sample in samples if sample.cost is not None]
        rows.append(
            (
                _cut(visible(task), 28),
                *(_marks(samples, name, results.samples_per_task) for name in names),
                f"{sum(sample.turns for sample in samples):,}",
                short(sum(sample.input_tokens + sample.output_tokens for sample in samples)),
                money(sum(cost)) if cost else "-",
                clock(sum(sample.seconds for sample in samples)),
            )
        )
    lines = _aligned(rows, left=1 + len(names))
    if more := len(by_task) - len(shown):
        where = "DIR" if results.directory is None else os.path.relpath(results.directory)
        lines.append(_cut(f"… {more} more: triocept stats {where} --by task"))
    return lines


def _marks(samples: Sequence[Sample], name: str, planned: int) -> str:
    """Return the scores of a task: `2 of 3`, or the mean of other numbers; `?` counts samples without a score."""
    values = [sample.scores[name].value for sample in samples if sample.scored and name in sample.scores]
    unknown = [f"{planned - len(values)} ?"] if len(values) < planned else []
    known = [f"{sum(values):.0f} of {len(values)}" if set(values) <= {0.0, 1.0} else f"{mean(values):.3f}"]
    return ", ".join([*(known if values else []), *unknown])


def _aligned(rows: Iterable[Sequence[str]], *, left: int) -> list[str]:
    """Return rows with aligned columns; the first `left` columns are aligned to the left."""
    table = [*rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        _cut(
            "   ".join(
                f"{cell:<{width}}" if at < left else f"{cell:>{width}}"
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
        )
        for row in table
    ]


def _cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def document_of(results: EvaluationResults) -> dict[str, Json]:
    errors = Counter(str(sample.reason) for sample in results.unscored)
    return {
        "name": results.name,
        "agent": results.agent,
        "model": results.model,
        "tasks": len(results.tasks),
        "samples": results.planned,
        "scored": len(results.scored),
        "not_run": results.planned - len(results.samples),
        "errors": dict(errors),
        "scores": {name: summary_of(results, name).document() for name in results.score_names},
    }
