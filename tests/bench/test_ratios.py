"""Ratios of pairs, and the page that is made from the figures of runs."""

import json
from pathlib import Path

import pytest

from bench.page import FIGURES, PAGES, render
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_made_from_the_figures_of_the_last_run(page: Path) -> None:
    """After a run: `python -m bench.page`."""
    text = page.read_text(encoding="utf-8")
    assert "% figures: " in text
    assert render(text, json.loads(FIGURES.read_text(encoding="utf-8"))) == text


def test_a_table_without_figures_of_its_run_is_an_error() -> None:
    with pytest.raises(KeyError, match="agents"):
        render("% figures: agents ratios\n\n% end of figures\n", {})


def test_other_figures_make_another_page() -> None:
    row = {"vf_legacy": {"median": 0.5, "low": 0.4, "high": 0.6, "ours": 1800.0, "pairs": 11}}
    run = {
        "date": "2026-12-01",
        "commit": "01234567",
        "machine": "Linux",
        "load": 3,
        "figures": {"codex": row},
    }
    text = "% figures: agents ratios\n\n% end of figures\n% figures: agents million\nold\n% end of figures\n"
    page = render(text, {"agents": run})
    assert "| Codex | 0.50 (0.40 to 0.60) | ≤ 0.60, met |" in page
    assert "| Codex | 1.8 | 0.50 |" in page
    assert "old" not in page
    assert "Measured on 2026-12-01, at commit `01234567` (Linux, load average 3)." in page
    assert render(page, {"agents": run}) == page
    assert render(page, {"agents": {**run, "commit": "76543210"}}) != page
