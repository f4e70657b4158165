"""What is said of the tests is so: each can fail."""

import ast
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

pytestmark = pytest.mark.once

TESTS = Path(__file__).parent
FILES = sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py"))
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def test_every_test_asserts_something() -> None:
    """By itself, by a function of its module, or by one from elsewhere that is named for it."""
    silent = []
    for file in FILES:
        functions = list(functions_of(ast.parse((TESTS / file).read_text())))
        asserting = {function.name for function in functions if asserts(function)}
        silent += [
            f"{file}::{function.name}"
            for function in functions
            if function.name.startswith("test_") and function.name not in asserting
            if not names_in(function) & asserting
        ]
    assert silent == []


def test_no_two_modules_have_one_name_where_no_package_tells_them_apart() -> None:
    """pytest imports the first of them alone, and ends at the second: only a run of the whole suite would show it."""
    apart = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    names = Counter(
        path.name
        for path in map(TESTS.joinpath, FILES)
        if not (path.parent / "__init__.py").exists()
        if not {*path.parts} & {*apart["norecursedirs"]}
    )
    assert [name for name, count in names.items() if count > 1] == []


def functions_of(module: ast.Module) -> Iterator[Function]:
    for node in ast.walk(module):
        if isinstance(node, Function):
            yield node


def asserts(function: Function) -> bool:
    text = ast.unparse(function)
    return (
        re.search(r"\bassert |AssertionError|pytest\.(raises|fail|warns)|\b(check|assert)_\w+\(", text)
        is not None
    )


def names_in(function: Function) -> set[str]:
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}


@pytest.mark.parametrize(
    ("body", "found"), [("assert x", True), ("check_end(x)", True), ("await x.wait()", False)]
)
def test_a_test_that_asserts_nothing_is_found(body: str, found: bool) -> None:
    (function,) = functions_of(ast.parse(f"async def test_it():\n    {body}"))
    assert asserts(function) == found


def test_the_suite_hears_ctrl_c_though_a_script_has_started_it_in_the_background() -> None:
    """A shell has SIGINT ignored there, and so have all programs that the tests would interrupt."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from tests.conftest import pytest_configure; pytest_configure()\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent, check=True, timeout=60)
    assert signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None)
