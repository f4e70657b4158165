"""The table of an evaluation, at most 78 columns wide, and the same figures as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .._canonical.content import Json
from .._util.figures import clock, counted, short
from .._util.terminal import visible
from ._types import EvaluationResults, Sample

WIDTH = 78
MOST_TASKS = 12
"""Maximum tasks that the table lists."""
RULE = """\
scored: whatever the agent did, also if it failed or reached a limit.
no score: provider error, no model call, failed start or scorer, lost worker."""


def table_of(results: EvaluationResults) -> str:
    head = [results.name, results.agent, results.model]
    size = f"{counted(len(results.tasks), 'task', 'tasks')} x {counted(results.samples_per_task, 'sample', 'samples')}"
    lines = [_cut(" · ".join([*(_cut(visible(each), 24) for each in head), size])), ""]
    lines += _scores(results)
    lines += ["", *_ends(results), "", *_tasks(results), "", *RULE.splitlines()]
    return "\n".join(lines)


def _scores(results: EvaluationResults) -> list[str]:
    rows: list[Sequence[str]] = [("score", "mean", "scored", "unscored as 0", "as 1")]
    for name in results.score_names:
        means = [sum(each) / len(each) for each in results.values(name).values() if each]
        low, high = _bounds(results, name)
        rows.append(
            (
                visible(name),
                f"{sum(means) / len(means):.3f}",
                f"{len(results.scored)} of {results.planned}",
                f"{low:.3f}",
                f"{high:.3f}",
            )
        )
    if not results.score_names:
        rows.append(("-", "n/a", f"0 of {results.planned}", "n/a", "n/a"))
    return _aligned(rows, left=1)


def _bounds(results: EvaluationResults, name: str) -> tuple[float, float]:
    """Return the mean of a score with each missing sample as 0, and as 1."""
    number = results.samples_per_task
    values = results.values(name).values()
    low = sum(sum(each) for each in values) / results.planned
    return low, low + sum(number - len(each) for each in values) / results.planned


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
                f"${sum(cost):.2f}" if cost else "-",
                clock(sum(sample.seconds for sample in samples)),
            )
        )
    lines = _aligned(rows, left=1 + len(names))
    if more := len(by_task) - len(shown):
        where = "DIR" if results.directory is None else results.directory.name
        lines.append(_cut(f"… {more} more: triocept stats {where} --by task"))
    return lines


def _marks(samples: Sequence[Sample], name: str, planned: int) -> str:
    """Return the scores of a task: `2 of 3`, or the mean of other numbers; `?` counts samples without a score."""
    values = [sample.scores[name].value for sample in samples if sample.scored and name in sample.scores]
    unknown = f", {planned - len(values)} ?" if len(values) < planned else ""
    if set(values) <= {0.0, 1.0}:
        return f"{sum(values):.0f} of {len(values)}{unknown}"
    return f"{sum(values) / len(values):.3f}{unknown}"


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
    scores: dict[str, Json] = {}
    for name in results.score_names:
        means = [sum(each) / len(each) for each in results.values(name).values() if each]
        low, high = _bounds(results, name)
        scores[name] = {"mean": sum(means) / len(means), "unscored_as_0": low, "unscored_as_1": high}
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
        "scores": scores,
    }
