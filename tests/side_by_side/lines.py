"""Lines of code, by one rule for all tools; and what a tool's own tests say that it cannot say.

The rule: a line counts if it has code. Blank lines, comments and docstrings do not. All files are formatted by the
formatter of this project, so that nobody gains by long lines.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path

from .tools import Tool

NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
MARKS = ("skip", "xfail")


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How much a tool's user writes."""

    in_tests: int
    """In the ten tests, their decorators included, that of what cannot be said left out."""
    around: int
    """Beside them: imports, fixtures, helpers, and wire documents by hand."""
    recorded: int
    """In files that are recorded, not written."""


def count(tool: Tool) -> Counted:
    """The lines of a tool's tests, and of what they need."""
    text = tool.file.read_text()
    tests = sum(len(code_lines(text, node)) for node in cases_of(text).values())
    whole = sum(len(code_lines(path.read_text())) for path in (tool.file, *tool.beside))
    marks = sum(len(code_lines(text, mark)) for mark in _marks(text).values())
    recorded = sum(len(path.read_text().splitlines()) for path in _recorded(tool))
    return Counted(in_tests=tests - marks, around=whole - tests, recorded=recorded)


def cases_of(text: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests of a file, by name, in their order."""
    functions = (
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {node.name: node for node in functions if node.name.startswith("test_")}


def unsaid(text: str) -> dict[str, str]:
    """Why a test cannot pass, by its name."""
    found = {}
    for name, mark in _marks(text).items():
        (reason,) = (each.value for each in mark.keywords if each.arg == "reason")
        found[name] = ast.literal_eval(reason)
    return found


def code_lines(text: str, node: ast.AST | None = None) -> set[int]:
    """The numbers of the lines that have code, of a file or of a part of it."""
    lines = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for number in range(token.start[0], token.end[0] + 1)
    } - _docstrings(text)
    if node is None:
        return lines
    first = min(
        [node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]  # type: ignore[attr-defined]
    )
    return lines & set(range(first, node.end_lineno + 1))  # type: ignore[attr-defined]


def _docstrings(text: str) -> set[int]:
    """The lines of strings that are statements."""
    return {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _marks(text: str) -> dict[str, ast.Call]:
    return {
        name: mark
        for name, test in cases_of(text).items()
        for mark in test.decorator_list
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute) and mark.func.attr in MARKS
    }


def _recorded(tool: Tool) -> list[Path]:
    return sorted(path for path in tool.recorded.rglob("*") if path.is_file()) if tool.recorded else []
