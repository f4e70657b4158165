"""The command `triocept compare A B`, which compares the scores of two evaluations, or two runs of one task."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click
import msgspec

from .._util.terminal import say
from .looking import end_with_page
from .options import Choice, Command, InputPath, PositiveNumber, WholeNumber
from .page import Page

FORMATS = ("text", "json", "markdown", "csv")
_STORE = InputPath("Name the stores of two evaluations, as in: triocept compare runs/a runs/b")


@click.command(cls=Command, short_help="Compare the scores of two evaluations, or two runs of one task.")
@click.argument("a", type=_STORE)
@click.argument("b", type=_STORE)
@click.option(
    "--task",
    metavar="ID",
    help="Show the two runs of this task side by side. Turns with the same answer are on the same line.",
)
@click.option(
    "--sample",
    "samples",
    type=WholeNumber(0),
    multiple=True,
    metavar="N",
    help="With --task: number of the sample to show, counted from 0. If given twice, the first number is for A, "
    "and the second for B. Default: 0.",
)
@click.option(
    "--difference",
    type=PositiveNumber(),
    default=0.1,
    show_default=True,
    metavar="D",
    help="Estimate how many tasks two evaluations need so that a difference of D between them is detected with a "
    "probability of 0.8.",
)
@click.option(
    "--format",
    "form",
    type=Choice(FORMATS),
    default="text",
    show_default=True,
    metavar="NAME",
    help=f"Format of the output: {', '.join(FORMATS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def compare(
    a: Path, b: Path, task: str | None, samples: tuple[int, ...], difference: float, form: str, as_json: bool
) -> None:
    """Compare the scores of two evaluations of the same tasks, paired by task, or two runs of one task.

    A and B are the stores of two evaluations. Prints the mean of each score in A and in B, the difference of the two
    means with its standard error and 95 % interval, and the tasks that pass in only one of the evaluations.

    With --task, A and B may also be stores of fleets, or twice the same store.

    \b
    triocept compare runs/qwen runs/other
    triocept compare runs/qwen runs/other --task dates
    triocept compare runs/qwen runs/other --format markdown
    """
    form = "json" if as_json else form
    if task is not None:
        _compare_runs((a, b), task, samples or (0,), form)
    if samples:
        raise click.UsageError("--sample needs --task ID: add the task of the sample")
    from ..evaluation import compare_results, read_results

    def look(page: Page) -> int:
        results = [read_results(path) for path in (a, b)]
        for path, text in {a: results[0].unfinished, b: results[1].unfinished}.items():
            if text:
                say(f"▸ {path}: {text}")
        compared = compare_results(*results, difference=difference)
        match form:
            case "json":
                page.text(msgspec.json.format(msgspec.json.encode(compared.document()), indent=2).decode())
            case "markdown":
                page.text(compared.markdown())
            case "csv":
                page.text(compared.csv().rstrip("\n"))
            case _:
                page.text(compared.table())
        return 0

    end_with_page(look)


def _compare_runs(stores: tuple[Path, Path], task: str, samples: tuple[int, ...], form: str) -> NoReturn:
    from .compare_runs import result_of, show_runs

    if form not in ("text", "json"):
        raise click.UsageError(
            f"--format {form} cannot be used with --task: use --format text or --format json"
        )
    if len(samples) > 2:
        raise click.UsageError(
            f"--sample was given {len(samples)} times: give it once, or once for A and once for B"
        )

    def look(page: Page) -> int:
        results = [
            result_of(store, task, each) for store, each in zip(stores, (samples * 2)[:2], strict=True)
        ]
        show_runs(page, stores, results, as_json=form == "json")
        return 0

    end_with_page(look)
