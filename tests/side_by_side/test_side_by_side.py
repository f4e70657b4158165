"""What the page of the five tools says is so, as far as it can be seen without running them: `nox -s suites` does."""

from __future__ import annotations

import ast
import re

import pytest

from tests.side_by_side import page
from tests.side_by_side.lines import cases_of, code_lines, count, unsaid
from tests.side_by_side.tools import TOOLS, TRIOCEPT, Tool

EVERY_TOOL = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)


def generated(name: str) -> str:
    found = page.part(name).findall(page.SIDE_BY_SIDE.read_text())
    assert len(found) == 1, name
    return str(found[0])


@EVERY_TOOL
def test_every_tool_has_the_same_ten_tests_in_the_same_order(tool: Tool) -> None:
    names = [*cases_of(tool.file.read_text())]
    assert len(names) == 10
    assert names == [*cases_of(TRIOCEPT.file.read_text())]


@EVERY_TOOL
def test_every_tool_tests_the_same_calls_of_the_application(tool: Tool) -> None:
    """What it cannot say included: the code is there. A wrong key is asked with another question where it must be."""
    ours, theirs = (calls_of_the_application(each) for each in (TRIOCEPT, tool))
    different = [name for name in ours if ours[name] != theirs[name]]
    assert different in ([], ["test_a_wrong_key_is_reported"])


def calls_of_the_application(tool: Tool) -> dict[str, list[str]]:
    return {
        name: [
            ast.unparse(node)
            for node in ast.walk(test)
            if isinstance(node, ast.Call) and re.match(r"application\.[a-z]", ast.unparse(node))
        ]
        for name, test in cases_of(tool.file.read_text()).items()
    }


def test_triocept_leaves_none_of_them_out() -> None:
    assert unsaid(TRIOCEPT.file.read_text()) == {}


def test_the_code_on_the_page_is_that_of_the_files() -> None:
    assert generated("code") == page.code()


def test_what_cannot_be_said_is_on_the_page_as_the_tests_say_it() -> None:
    assert generated("unsaid") == page.unsaid_list()


@EVERY_TOOL
def test_the_lines_on_the_page_are_those_of_the_files(tool: Tool) -> None:
    (row,) = (line for line in generated("figures").splitlines() if line.startswith(f"| {tool.name} |"))
    cells = [cell.strip() for cell in row.split("|")][2:6]
    lines = count(tool)
    passing = 10 - len(unsaid(tool.file.read_text()))
    recorded = str(lines.recorded) if lines.recorded else ""
    assert cells == [str(passing), str(lines.in_tests), str(lines.around), recorded]


def test_a_line_counts_if_it_has_code() -> None:
    text = '"""A file."""\n\n# Nothing.\ndef f(\n    a,\n):\n    """Docs."""\n    b = """x\n\n"""\n    return b  # c\n'
    assert code_lines(text) == {4, 5, 6, 8, 9, 10, 11}
    decorated = "import x\n\n\n@x\ndef test_it():\n    pass\n"
    assert code_lines(decorated, cases_of(decorated)["test_it"]) == {4, 5, 6}


def test_no_cassette_holds_a_key_or_an_address() -> None:
    for tool in TOOLS:
        for path in tool.recorded.rglob("*.yaml") if tool.recorded else ():
            assert not re.search(r"sk-|authorization|x-api-key|127\.0\.0\.1", path.read_text(), re.I), path
