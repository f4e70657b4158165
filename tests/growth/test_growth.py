"""No parser, decoder, framer or table takes more than about twice as long for twice as much, or twice the memory.

One row each, in the rooms beside this one: what is new is one line there.
"""

import pytest

from tests.growth.measured import MOST, Work, cpu_growth, memory_growth
from tests.growth.rows import ROWS, SECTIONS, STEADY
from tests.growth.table import PAGE

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", ROWS)
def test_twice_as_much_takes_about_twice_the_time_and_memory(name: str) -> None:
    growth = cpu_growth(ROWS[name])
    assert growth.ratio < MOST, (
        f"{growth.n} takes {growth.once:.4f} s, and {growth.times} times as much {growth.more:.4f} s"
    )
    kept = memory_growth(ROWS[name], 100)
    assert kept.ratio < MOST, f"{kept.n} takes {kept.once:,} bytes, and twice as much {kept.more:,}"


@pytest.mark.parametrize("name", STEADY)
def test_what_is_through_is_not_kept(name: str) -> None:
    kept = memory_growth(STEADY[name], 1500)
    assert kept.ratio < 1.3, f"{kept.n} takes {kept.once:,} bytes, and twice as much {kept.more:,}"


def test_no_two_rows_have_one_name() -> None:
    assert len(ROWS) == sum(map(len, SECTIONS.values()))


def test_the_page_has_every_row() -> None:
    told = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines()]
    assert [name for name in told if name in ROWS] == list(ROWS), "python -m tests.growth.table"


def test_what_is_quadratic_is_seen() -> None:
    def work(n: int) -> Work:
        return lambda: [[0] * n for _ in range(n)]

    assert cpu_growth(work, rounds=3).ratio >= MOST
    assert memory_growth(work, 200).ratio >= MOST
