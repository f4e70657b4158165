"""What n takes and what 2n takes, of all rows: `python -m tests.growth.table` writes it into the docs."""

import logging
from collections.abc import Iterator
from pathlib import Path

from tests.growth.measured import Make, cpu_growth, memory_growth
from tests.growth.rows import SECTIONS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "growth.md"
BEGIN, END = "<!-- the tables: python -m tests.growth.table -->\n", "<!-- the end of the tables -->\n"
SIZE = 400
"""Of what the memory is measured of."""


def table() -> Iterator[str]:
    """The lines of the tables."""
    for section, rows in SECTIONS.items():
        yield f"\n## {section}\n\n"
        yield "| | n | CPU, ms | of 2n | ratio | memory, ratio |\n|---|---|---|---|---|---|\n"
        for name, make in rows.items():
            yield row(name, make)
    yield "\n"


def row(name: str, make: Make) -> str:
    time, memory = cpu_growth(make), memory_growth(make, SIZE)
    figures = f"{time.once * 1e3:.1f} | {time.more * 1e3:.1f} | {time.ratio:.1f} | {memory.ratio:.1f}"
    return f"| {name} | {time.n:,} | {figures} |\n"


def main() -> None:
    logging.disable()  # floods are told there
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{''.join(table())}{END}{after}")


if __name__ == "__main__":
    main()
