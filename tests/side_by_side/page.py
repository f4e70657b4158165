"""The generated parts of two pages of the docs: tables of figures, what cannot be said, code, and aimock's examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .aimock_examples import Example
from .lines import cases_of, count, unsaid
from .overhead import KINDS, Overhead
from .running import Run
from .tools import TOOLS, Tool

DOCS = Path(__file__).parents[2] / "docs"
SIDE_BY_SIDE = DOCS / "explanation" / "side-by-side.md"
FROM_AIMOCK = DOCS / "how-to" / "from-aimock.md"
SUITES = "../../tests/side_by_side/suites"
"""From there."""


def part(name: str) -> re.Pattern[str]:
    """Where a generated part stands: group 1 is what is in it."""
    return re.compile(rf"<!-- {name}: generated -->\n(.*?)<!-- {name}: end -->", re.DOTALL)


def put(page: Path, name: str, text: str) -> None:
    """Write a generated part of a page; raise ValueError if the page has no such part."""
    new, found = part(name).subn(
        lambda _: f"<!-- {name}: generated -->\n{text}<!-- {name}: end -->", page.read_text()
    )
    if found != 1:
        raise ValueError(f"{page.name} has {found} parts named {name!r}")
    page.write_text(new)


def figures(runs: Mapping[str, list[Run]]) -> str:
    """One line for each tool: what is written, what passes, how long it takes."""
    head = (
        "| tool | tests that pass | lines in the tests | lines around them | recorded lines "
        "| whole run, s (CPU s) | in the tests, s |\n|---|--:|--:|--:|--:|--:|--:|\n"
    )
    return head + "".join(_row(tool, runs[tool.key]) for tool in TOOLS)


def _row(tool: Tool, runs: list[Run]) -> str:
    lines = count(tool)
    whole, cpu, inside = (
        min(each)  # of all rounds: what else the machine does only adds
        for each in zip(*((run.seconds, run.cpu, sum(run.tests.values())) for run in runs), strict=True)
    )
    return (
        f"| {tool.name} | {len(runs[0].tests)} | {lines.in_tests} | {lines.around} | {lines.recorded or ''} "
        f"| {whole:.1f} ({cpu:.1f}) | {inside:.1f} |\n"
    )


def unsaid_list() -> str:
    """What the tests of each tool say that it cannot."""
    said = [
        f"- **{tool.name}**, `{test}`: {reason}.\n"
        for tool in TOOLS
        for test, reason in unsaid(tool.file.read_text()).items()
    ]
    return "".join(said)


def sessions(measured: Mapping[str, Overhead]) -> str:
    """One line for each kind of session."""
    head = (
        "| 200 tests with | fixture alone, ms a test | with one call, ms a test | CPU s, all 200 "
        "| once a session, ms | left at the end |\n|---|--:|--:|--:|--:|---|\n"
    )
    return head + "".join(_session(kind, measured[kind]) for kind in KINDS if kind != "empty")


def _session(kind: str, cost: Overhead) -> str:
    left = "; ".join(f"{what}: {', '.join(names)}" for what, names in cost.left.items()) or "nothing"
    return (
        f"| {KINDS[kind]} | {cost.alone:.1f} | {cost.call:.1f} | {cost.cpu:.1f} "
        f"| {max(cost.once, 0):.0f} | {left} |\n"
    )


def examples(tried: Iterable[Example]) -> str:
    """One line for each of aimock's files."""
    head = "| file | |\n|---|---|\n"
    return head + "".join(f"| `{each.name}` | {_outcome(each)} |\n" for each in tried)


def _outcome(example: Example) -> str:
    return f"refused: {example.refused}" if example.refused else f"{example.asked} asked, the same answers"


def code() -> str:
    """The ten tests, each in all tools, taken from the files where the page is built."""
    return "\n".join("\n".join(_test(name)) for name in cases_of(TOOLS[0].file.read_text()))


def _test(name: str) -> Iterator[str]:
    yield f"### {name.removeprefix('test_').replace('_', ' ').capitalize()}\n"
    for tool in TOOLS:
        yield f"{tool.name}:\n"
        yield f"```{{literalinclude}} {SUITES}/{tool.file.name}\n:pyobject: {name}\n```\n"
