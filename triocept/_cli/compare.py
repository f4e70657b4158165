"""`triocept compare A B`: compares the scores of two evaluations of the same tasks."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

import click
import msgspec

from .looking import end_with_page
from .options import Choice, Command
from .page import Page

FORMATS = ("text", "json", "markdown", "csv")


@click.command(cls=Command, short_help="Compare the scores of two evaluations.")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--difference",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    metavar="D",
    help="Estimate how many tasks would show a difference of this size.",
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
@click.option("--json", "as_json", is_flag=True, help="As --format json.")
def compare(a: Path, b: Path, difference: float, form: str, as_json: bool) -> None:
    """Compare the scores of two evaluations of the same tasks, paired by task.

    A and B are the stores of two evaluations. Prints the mean of each score in both, their difference with its
    standard error and 95 % interval, and the tasks that pass in only one of them.

    \b
    triocept compare runs/qwen runs/other
    triocept compare runs/qwen runs/other --format markdown
    """
    from ..evaluation import compare_results, read_results

    if not isfinite(difference):
        raise click.UsageError(f"--difference {difference:g}: it must be a number above 0")

    def look(page: Page) -> int:
        compared = compare_results(read_results(a), read_results(b), difference=difference)
        match "json" if as_json else form:
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
