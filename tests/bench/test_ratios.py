"""Ratios of pairs, and the page that is made from the figures of runs."""

import json

import pytest

from bench.page import FIGURES, PAGE, render
from bench.ratios import interval_of, ratio_of


@pytest.mark.parametrize(
    ("count", "places"), [(1, (0, 0)), (5, (0, 4)), (6, (0, 5)), (11, (1, 9)), (100, (39, 60))]
)
def test_the_interval_of_a_median_leaves_at_most_a_fortieth_on_either_side(
    count: int, places: tuple[int, int]
) -> None:
    assert interval_of(count) == places


def test_a_ratio_is_the_median_of_the_ratios_of_pairs_and_not_of_the_medians() -> None:
    ratio = ratio_of([1.0, 10.0, 100.0], [2.0, 10.0, 400.0])
    assert (ratio.median, ratio.low, ratio.high, ratio.ours, ratio.pairs) == (0.5, 0.25, 1.0, 10.0, 3)


def test_figures_of_pairs_that_are_not_whole_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio_of([1.0, 2.0], [1.0])


def test_the_page_of_figures_is_made_from_the_figures_of_the_last_run() -> None:
    """After a run: `python -m bench.page`."""
    page = PAGE.read_text(encoding="utf-8")
    assert render(page, json.loads(FIGURES.read_text(encoding="utf-8"))) == page


def test_a_page_that_names_figures_which_no_run_has_is_an_error() -> None:
    with pytest.raises(KeyError, match="agents"):
        render("% figures: agents\n\n% end of figures\n", {})


def test_other_figures_change_the_page() -> None:
    page, runs = PAGE.read_text(encoding="utf-8"), json.loads(FIGURES.read_text(encoding="utf-8"))
    for name, run in runs.items():
        assert render(page, {**runs, name: {**run, "commit": "0000000"}}) != page
