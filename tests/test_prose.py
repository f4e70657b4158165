"""Docstrings and pages are plain English, by three counts.

trio, httpx, rich and structlog have 0 to 3.5 % in the first count, and 0 to 0.2 % in the others. triocept began with
28.2, 16.8 and 5.8 % of its docstrings, and with 6.4, 28.4 and 7.5 % of the paragraphs of its pages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
COUNTS = {
    # what a docstring, or a paragraph, must not have: pattern, and the largest share in percent
    "opens with a question word or a pronoun": (
     r"^(Whether|What|Who|Whose|Which|How|Where|When|That|Those|One|Likewise|The same)\b", 1.0),
    "lets a thing say, tell, ask, hear or know": (
     r"(?i)\b(say|says|said|tell|tells|told|ask|asks|asked|hear|hears|knows?)\b", 2.0),
    "holds a metaphor or a nobody": (
        r"(?i)\b(whoever|somebody|nobody|is none|puts? up with|rooms?|floors?|the house|faces?|voice|at home|"
        r"it is that|be it|of one's own)\b",
        0.3,
    ),
}  # fmt: skip


def docstrings(path: Path) -> Iterator[str]:
    """Yield the first paragraph of each docstring of a module, those of attributes included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            texts = [ast.get_docstring(node)]
            if isinstance(node, ast.Module | ast.ClassDef):
                texts += [
                    after.value.value
                    for before, after in zip(node.body, node.body[1:])
                    if isinstance(before, ast.Assign | ast.AnnAssign)
                    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    if isinstance(after.value.value, str)
                ]
            yield from (text.strip().split("\n\n")[0].replace("\n", " ") for text in texts if text)


def paragraphs(path: Path) -> Iterator[str]:
    """Yield the paragraphs and list items of a page, without code, headings and tables."""
    text = re.sub(r"^ *(`{3,}).*?^ *\1$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ *([-*+]|\d+\.) +", "\n\n", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.splitlines()]
        words = " ".join(line for line in lines if not line.startswith(("#", "|", ":::", "(", "<!--", "%")))
        if words:
            yield re.sub(r"`[^`]*`", "`…`", words)


@pytest.mark.parametrize("what", COUNTS)
@pytest.mark.parametrize(
    ("folder", "pattern", "texts"),
    [("triocept", "*.py", docstrings), ("docs", "*.md", paragraphs)],
    ids=["docstrings", "pages"],
)
def test_few_texts_are_hard_to_read(folder: str, pattern: str, texts, what: str) -> None:
    found = [
        (str(path.relative_to(ROOT)), text)
        for path in sorted((ROOT / folder).rglob(pattern))
        if "_build" not in path.parts
        for text in texts(path)
    ]
    bad, most = COUNTS[what]
    hits = [(path, text[:100]) for path, text in found if re.search(bad, text)]
    share = 100 * len(hits) / len(found)
    assert share <= most, f"{share:.1f} % of {len(found)} texts; the goal is {most} %: {hits[:40]}"


def test_the_description_of_an_option_begins_on_a_line_of_its_own() -> None:
    """`--option` and its description on one line are a paragraph, not an entry of a definition list."""
    pages = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts]
    assert [
        (page.name, line)
        for page in pages
        for line in page.read_text().splitlines()
        if re.match(r"`-[^`]*` : ", line)
    ] == []
