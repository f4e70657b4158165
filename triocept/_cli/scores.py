"""Print the scores of evaluations for `triocept stats`, of all samples or by task, scorer or metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._canonical.content import Json
from ..errors import StoreError, TrioceptError
from ..fleets.store.layout import EVALUATION
from .options import Choice
from .page import Page
from .stats import KEYS
from .words import cut

if TYPE_CHECKING:
    from .._view.source import Source
    from ..evaluation import EvaluationResults

SCORE_KEYS = ("task", "scorer")
METADATA = "metadata."
_EXPLANATION = 200
"""Maximum characters of a score's explanation on the page."""
_LABEL = 28
"""Maximum characters of a group's name."""


class StatsKey(Choice):
    """Type of the value of `--by`: a property by which calls, or the scores of an evaluation, are grouped."""

    def __init__(self) -> None:
        super().__init__([*KEYS, *SCORE_KEYS])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if str(value).startswith(METADATA) and value != METADATA:
            return str(value)
        return super().convert(value, param, ctx)

    def __str__(self) -> str:
        return f"{super().__str__()}, metadata.KEY"


def evaluation_of(path: Path) -> EvaluationResults | None:
    if not (path / EVALUATION).is_file():
        return None
    from ..evaluation import read_results

    return read_results(path)


def show_scores(page: Page, results: EvaluationResults, by: Sequence[str]) -> None:
    """Print the scores of an evaluation, grouped by `by`.

    `by` contains `task`, `scorer` or names that begin with `metadata.`. If it is empty, the scores are not grouped.
    """
    from ..evaluation._statistics import groups_of, summary_of
    from ..evaluation._table import counts_of, ends_of, reasons_of, score_head, score_row, task_rows

    head = f"{results.name} · {results.agent} · {results.model}"
    counts = {each: number for each, (number, _) in counts_of(results, results.scorers).items()}
    if len({*counts.values()}) == 1:
        page.line((head, "bold"), f", {max(counts.values()):,} of {results.planned:,} samples scored")
    else:
        each_count = (f"{number:,} by {name}" for name, number in counts.items())
        page.line((head, "bold"))
        page.line(f"of {results.planned:,} samples, scored: {', '.join(each_count)}")
    keys = [each for each in by if each != "scorer"]
    if [*by] == ["task"]:
        rows, left = task_rows(results, results.score_names), 1 + len(results.score_names)
    else:
        rows, left = [(*keys, *score_head(results.samples_per_task))], len(keys) + 1
        for labels, group in groups_of(results, keys).items():
            cells = [cut(label, _LABEL) for label in labels]
            names = *results.score_names, *results.silent_scorers
            rows += [(*cells, *score_row(summary_of(group, name))) for name in names]
    if results.score_names:
        bold = tuple((cell, "bold") for cell in rows[0])
        page.table([bold, *rows[1:]], [at >= left for at in range(len(bold))])
    for text in ends_of(results):
        page.line(text)
    for text in reasons_of(results):
        page.line("  ", cut(text, _EXPLANATION))


def scores_document(path: Path, results: EvaluationResults, by: Sequence[str]) -> dict[str, Json]:
    import msgspec

    from ..evaluation._statistics import groups_of, used_by

    keys = [each for each in by if each != "scorer"]
    groups = groups_of(results, keys).items() if keys else ()
    return {
        "store": str(path),
        **results.document(),
        "used": msgspec.to_builtins(used_by(results.samples)),
        "groups": [
            {
                **dict(zip(keys, labels, strict=True)),
                "samples": group.planned,
                "scored": len(group.scored),
                "scores": group.document()["scores"],
                "used": msgspec.to_builtins(used_by(group.samples)),
            }
            for labels, group in groups
        ],
    }


def add_tasks(source: Source, files: Iterable[Path]) -> list[str]:
    """Add the tasks of all evaluations in `files` to the page of `source`.

    Return a text about each problem in the stores of these evaluations.
    """
    stores: dict[Path, EvaluationResults] = {}
    problems: list[str] = []
    for file in files:
        try:
            if (results := evaluation_of(file)) is not None:
                stores[file] = results
        except StoreError as exc:
            problems.append(f"the tasks are not shown: {exc}")
    if stores:
        source.evaluation = tasks_document(stores, runs_of(source))
    return problems


def runs_of(source: Source) -> dict[str, str]:
    """Return a dict from the `Trace.run` of each run to the id of this run on the page."""
    return {run.trace.run: run.id for run in source.runs.values()}


def tasks_document(stores: Mapping[Path, EvaluationResults], runs: Mapping[str, str]) -> dict[str, Json]:
    """Return the tasks of evaluations with their samples, as JSON for the page.

    A task has `flipped` if there are two stores, and the task passes in only one of them.

    Args:
        stores: results of the evaluations, by the path of the store.
        runs: dict from the `Trace.run` of each run to the id of the run on the page.
    """
    from ..evaluation import compare_results
    from ..evaluation._table import explained
    from ..evaluation._types import run_of

    flipped: set[str] = set()
    if len(stores) == 2:
        with suppress(TrioceptError):  # they have no score in common
            found = compare_results(*stores.values()).scores
            flipped = {change.task for score in found for change in score.flipped}
    samples = {path: {(each.task, each.number): each for each in of.samples} for path, of in stores.items()}

    def sample(path: Path, task: str, number: int) -> dict[str, Json]:
        one = samples[path].get((task, number))
        if one is None:
            return {"run": None, "state": "missing", "text": "not run"}
        values = {name: one.scores[name].value for name in stores[path].score_names if name in one.scores}
        texts = [f"{name} {value:.3g}" for name, value in values.items()]
        if not one.scored:
            state, texts = "unscored", [*texts, explained(one)]
        else:
            state = (
                "passed" if next(iter(values.values())) >= 1 else "below"
            )  # the first scorer, as in the table
        return {"run": runs.get(run_of(one) or ""), "state": state, "text": " · ".join(texts)[:_EXPLANATION]}

    planned = {path: {task.id for task in of.tasks} for path, of in stores.items()}
    tasks = dict.fromkeys(task.id for of in stores.values() for task in of.tasks)
    return {
        "stores": [{"name": str(path), "about": f"{of.agent} · {of.model}"} for path, of in stores.items()],
        "tasks": [
            {
                "id": task,
                "flipped": task in flipped,
                "samples": [
                    [sample(path, task, number) for number in range(of.samples_per_task)]
                    if task in planned[path]
                    else []
                    for path, of in stores.items()
                ],
            }
            for task in tasks
        ],
    }
