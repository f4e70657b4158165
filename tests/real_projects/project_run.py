"""A run of pytest in a project, in an environment; and whether it went as the project's tests say."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.real_projects.environments import Environment

PROJECTS = Path(__file__).with_name("projects")
APPLICATIONS = Path(__file__).with_name("applications")
"""What the projects test: each has a copy of both."""
LIMIT = 120
"""Seconds of one run; each takes some five."""
TAKEN_OUT = ("PYTEST_", "PYTHONPATH", "COVERAGE_", "OPENAI_", "ANTHROPIC_", "TRIOCEPT_")
"""What the run of somebody else's project has nothing of, by how its name begins."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A run that has ended."""

    returncode: int
    """pytest's: 1, where a test has failed."""
    output: str
    """What stood on the terminal."""
    failures: dict[str, str]
    """What each failed test was told for, by its name (without parameters)."""
    passed: set[str]
    """The names of those that passed, or failed as it is expected of them (`xfail`)."""
    errors: list[str]
    """What went wrong at a set-up or a teardown."""


def own_environment() -> dict[str, str]:
    """The environment of such a run."""
    return {name: value for name, value in os.environ.items() if not name.startswith(TAKEN_OUT)}


def copy_project(project: str, place: Path) -> Path:
    """Copy a project, and the applications that it tests; return its folder."""
    folder = shutil.copytree(PROJECTS / project, place / project)
    return shutil.copytree(APPLICATIONS, folder, dirs_exist_ok=True)


def run_project(environment: Environment, project: str, place: Path, *arguments: str) -> Done:
    """pytest in a copy of the project."""
    folder, report = copy_project(project, place), place / "report.xml"
    done = subprocess.run(
        [environment.python, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments],
        cwd=folder,
        env=own_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert report.exists(), done.stdout
    cases = list(ElementTree.parse(report).iter("testcase"))
    return Done(
        returncode=done.returncode,
        output=done.stdout,
        failures={_name(case): _text(case, "failure") for case in cases if case.find("failure") is not None},
        passed={_name(case) for case in cases if _has_passed(case)},
        errors=[_text(case, "error") for case in cases if case.find("error") is not None],
    )


def check_outcomes(done: Done, project: str) -> None:
    """Every test of the project has ended as it says itself."""
    expected = {
        name: words for file in PROJECTS.joinpath(project).glob("test_*.py") for name, words in _tests(file)
    }
    assert done.errors == [], done.output
    assert done.passed == {name for name, words in expected.items() if words is None}, done.output
    assert done.failures.keys() == {name for name, words in expected.items() if words is not None}, (
        done.output
    )
    for name, text in done.failures.items():
        assert re.sub(r"\s+", " ", expected[name] or "") in re.sub(r"\s+", " ", text), (
            f"{name}:\n{done.output}"
        )


def _name(case: ElementTree.Element) -> str:
    return case.get("name", "").partition("[")[0]


def _has_passed(case: ElementTree.Element) -> bool:
    return all(found.get("type") == "pytest.xfail" for found in case)


def _text(case: ElementTree.Element, kind: str) -> str:
    found = case.find(kind)
    return "" if found is None else f"{found.get('message', '')}\n{found.text or ''}"


def _tests(file: Path) -> Iterator[tuple[str, str | None]]:
    """The names of a file's tests, and what each has to fail with; None: it has to pass."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            said = ast.get_docstring(node) or ""
            yield node.name, said.removeprefix("Fails:").strip() if said.startswith("Fails:") else None
