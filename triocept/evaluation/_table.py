"""Format the results of an evaluation as a table, at most 78 columns wide, and return the same statistics as JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import mean
from textwrap import wrap

from .._canonical.content import Json
from .._util.figures import clock, counted, short
from .._util.terminal import visible
from ._statistics import Estimate, ScoreSummary, Used, summaries_of, used_by
from ._types import NO_FILE, EvaluationResults, Sample, belongs, lacking

WIDTH = 78
MOST_TASKS = 12
"""Maximum number of tasks that the table lists."""
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
    head = [cut(each, width) for each, width in zip(names, widths, strict=True)]
    lines = [" · ".join([*head, size]), ""]
    lines += _scores(results)
    ends = ends_of(results) or ["all samples have a score, and each agent ended by itself"]
    lines += ["", *ends, "", *_tasks(results), "", *RULE.splitlines()]
    return "\n".join(lines)


def _scores(results: EvaluationResults) -> list[str]:
    number = results.samples_per_task
    summaries = summaries_of(results)
    if not results.score_names:
        return [f"no sample is scored: 0 of {results.planned}"]
    notes: list[str] = []
    for found in summaries:
        if found.scored < found.planned:
            bounds = f"unscored as 0: {found.unscored_as_0:.3f}, as 1: {found.unscored_as_1:.3f}"
            notes.append(f"  {cut(visible(found.name), 16)}, {bounds}")
        scores = [each.scores[found.name] for each in results.samples if found.name in each.scores]
        texts = {score.explanation or "" for score in scores}
        if len(texts) == 1 and (text := texts.pop()).startswith(NO_FILE):
            notes.append(cut(f"  {cut(visible(found.name), 16)}, all samples: {visible(text)}"))
    left_out = max(found.pass_at[-1].left_out for found in summaries)
    if left_out and number > 1:
        tasks = counted(len(results.tasks) - left_out, "task", "tasks")
        notes.append(f"  * of the {tasks} with {number} scored samples")
    return [*aligned([score_head(number), *map(score_row, summaries)], left=1), *notes]


def score_head(number: int) -> tuple[str, ...]:
    passes = (f"pass@{number}", f"pass^{number}") if number > 1 else ()
    return ("score", "mean", "se", "95 % interval", *passes, "scored")


def score_row(found: ScoreSummary) -> tuple[str, ...]:
    """Return the cells of one score's row. `*` marks a pass rate that leaves out tasks with too few scored samples."""
    estimate, rates = found.estimate, (found.pass_at[-1], found.pass_all[-1])
    return (
        cut(visible(found.name), 16),
        _figure(None if estimate is None else estimate.mean),
        _figure(None if estimate is None else estimate.stderr),
        range_of(estimate),
        *(f"{_figure(rate.value)}{'*' if rate.left_out else ' '}" for rate in rates if rate.k > 1),
        f"{found.scored} of {found.planned}",
    )


def range_of(estimate: Estimate | None) -> str:
    """Return the interval of a mean as text, `0.34 .. 0.84`; `n/a` if the mean has no interval."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return "n/a"
    return f"{estimate.low:.2f} .. {estimate.high:.2f}"


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def money(cost: float) -> str:
    return "<$0.01" if 0 < cost < 0.005 else f"${cost:,.2f}"


def ends_of(results: EvaluationResults) -> list[str]:
    """Return lines that count the samples without a score, and the scored samples whose agent did not end normally.

    Samples without a score are counted by reason: `not run`, or a value of `Sample.reason`. For scored samples, the
    lines count agents that reached the time limit or another limit, agents that failed, and samples that were scored
    in a later attempt.
    """
    lines: list[str] = []
    if results.unfinished:
        lines += wrap(results.unfinished, WIDTH)
    problems = [problem for sample in results.unscored for problem in problems_of(sample, results.scorers)]
    reasons = Counter(
        reason.replace("_", " ") + (f" ({scorer})" if scorer else "") for scorer, reason, _ in problems
    )
    if missing := results.planned - len(results.samples):
        reasons["not run"] = missing
    if reasons:
        what = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        lines += wrap(
            what,
            WIDTH,
            initial_indent=f"no score {missing + len(results.unscored):>4}   ",
            subsequent_indent=" " * 16,
        )
    ends = Counter(sample.ended for sample in results.samples if sample.scores)
    for end, text in {
        "time_limit": "ended by the time limit",
        "limit": "ended by another limit",
        "failed": "agent failed",
    }.items():
        if count := ends[end]:  # type: ignore[index]
            lines.append(f"scored   {count:>4}   {text}")
    if again := sum(sample.attempts > 1 for sample in results.samples if sample.scores):
        lines.append(f"scored   {again:>4}   in a later attempt, after one without a score")
    return lines


def problems_of(sample: Sample, scorers: Iterable[str] = ()) -> list[tuple[str, str, str]]:
    """Return the reasons why `sample` lacks scores, as tuples of a scorer's name, a reason and a text.

    If the agent's work has no score at all, the name is empty. `scorers` contains the scorers of the evaluation. Some
    of them may not have run on this sample, because they were added after it was scored.
    """
    failures = [(scorer, str(reason), text) for scorer, (reason, text) in sample.failures.items()]
    if sample.reason is not None and not failures:
        return [("", str(sample.reason), sample.explanation)]
    left = [each for each in lacking(sample, scorers) if each not in sample.failures]
    return [
        *failures,
        *((each, "not_scored", f"the scorer {each} has not scored this sample") for each in left),
    ]


def counts_of(results: EvaluationResults, scorers: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Return, for each scorer, the number of samples with its score, and a text about the samples without its score.

    The text contains the number of these samples for each reason. The text is empty if no sample lacks the score.
    """
    found: dict[str, tuple[int, str]] = {}
    for scorer in scorers:
        reasons = Counter(
            str(
                sample.failures.get(scorer, (sample.reason if not sample.failures else None, ""))[0]
                or "not_scored"
            )
            for sample in results.samples
            if lacking(sample, [scorer])
        )
        number = len(results.samples) - reasons.total()
        if missing := results.planned - len(results.samples):
            reasons["not_run"] = missing
        text = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.most_common())
        found[scorer] = number, text
    return found


def explained(sample: Sample) -> str:
    """Return one line that explains why `sample` lacks scores: `setup failed: the setup script returned 1`."""
    return "; ".join(_line(reason, text) for _, reason, text in problems_of(sample))


def _line(reason: str, text: str) -> str:
    return " ".join(f"{reason.replace('_', ' ')}: {text}".split())


def reasons_of(results: EvaluationResults) -> list[str]:
    """Return examples of errors: for each pair of a failed scorer and a reason, the error of one sample."""
    found = {
        (scorer, reason): f"{each.task}/{each.number}: {_line(reason, text)}"
        for each in results.unscored
        for scorer, reason, text in problems_of(each, results.scorers)
    }
    return [*found.values()]


def _tasks(results: EvaluationResults) -> list[str]:
    count, names = len(results.tasks), results.score_names[:1]
    rows = task_rows(results, names, MOST_TASKS if count <= MOST_TASKS else MOST_TASKS - 2)
    lines = aligned(rows, left=1 + len(names))
    if more := count + 1 - len(rows):
        where = "DIR" if results.directory is None else os.path.relpath(results.directory)
        lines.append(cut(f"… {more} more: triocept stats {where} --by task"))
    return lines


def task_rows(
    results: EvaluationResults, names: Sequence[str], most: int | None = None
) -> list[tuple[str, ...]]:
    """Return a row of headings, and a row for each of at most `most` tasks.

    The row of a task contains its turns, tokens and cost, and those of its scores that `names` contains.
    """

    def scorers_of(name: str) -> list[str]:
        return [scorer for scorer in results.scorers if belongs(name, scorer)]

    rows = [("task", *(cut(visible(name), 16) for name in names), "turns", "tokens", "cost", "time")]
    values = {name: results.values(name) for name in names}
    for task, samples in islice(results.by_task().items(), most):
        missing = results.samples_per_task - len(samples)
        lost = {
            name: missing + sum(bool(lacking(each, scorers_of(name))) for each in samples) for name in names
        }
        marks = (marks_of(found := values[name][task], len(found) + lost[name]) or "-" for name in names)
        rows.append((cut(visible(task), 28), *marks, *use_cells(used_by(samples))))
    return rows


def use_cells(used: Used) -> tuple[str, ...]:
    return (
        f"{used.turns:,}",
        f"{short(used.input_tokens + used.output_tokens)}{'~' if used.estimated else ''}",
        "-" if used.cost is None else money(used.cost),
        clock(used.seconds) if used.seconds else "-",
    )


def marks_of(values: Sequence[float], planned: int = 0) -> str:
    """Return a task's scores as text: `2 of 3` if all scores are 0 or 1, otherwise the mean.

    `planned` is the number of planned samples. The number of missing scores is shown before a `?`.
    """
    unknown = [f"{planned - len(values)} ?"] if len(values) < planned else []
    known = [f"{sum(values):.0f} of {len(values)}" if set(values) <= {0.0, 1.0} else f"{mean(values):.3f}"]
    return ", ".join([*(known if values else []), *unknown])


def aligned(rows: Iterable[Sequence[str]], *, left: int) -> list[str]:
    """Return `rows` as lines with aligned columns.

    The first `left` columns are aligned to the left, the others to the right.
    """
    table = [*rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        cut(
            "   ".join(
                f"{cell:<{width}}" if at < left else f"{cell:>{width}}"
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
        )
        for row in table
    ]


def cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def document_of(results: EvaluationResults) -> dict[str, Json]:
    errors = Counter(str(sample.reason or "not_scored") for sample in results.unscored)
    return {
        "name": results.name,
        "agent": results.agent,
        "model": results.model,
        "tasks": len(results.tasks),
        "samples": results.planned,
        "scored": len(results.scored),
        "not_run": results.planned - len(results.samples),
        "errors": dict(errors),
        "unfinished": results.unfinished,
        "scores": {each.name: each.document() for each in summaries_of(results)},
    }
