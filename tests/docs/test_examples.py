"""Every example in the documentation runs, prints what its page says, and is on a page.

An example `x.py` with an `x.out` beside it is a program: it is run, unchanged, and must print just that. `...` in an
`.out` stands for anything. Real agents are played by `tiny_agent.py`: the stand-ins are first on the PATH, under the
real agents' names.
"""

import doctest
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import triocept

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
EXAMPLES = DOCS / "examples"
PAGES = sorted(DOCS.rglob("*.md"))
PROGRAMS = sorted(path.with_suffix(".py").name for path in EXAMPLES.glob("*.out"))
NOT_PROGRAMS = {
    "tiny_agent.py",  # the agent that the others run
    "tiny_engine.py",  # the server that train.py asks
    "test_application.py",  # run by pytest
    "test_sync.py",  # likewise
    "test_with_pytest.py",  # likewise
    "test_handler.py",  # likewise
    "agent_over_ssh.py",  # run by tests/reach, with a real sshd
}
ARGUMENTS = {"quickstart.py": ["claude", "-p", "fix the bug"]}
NEEDS = {
    "triocept[openai]": r"\bclient\(\s*\"openai_|^import openai|^from openai",
    "triocept[anthropic]": r"\bclient\(\s*\"anthropic_",
    "trustme": r"^import trustme",
    "pytest-trio": r"^async def test_",
    "pytest": r"^import pytest",
    "`tiny_agent.py`": r"\"tiny_agent\.py\"",
    "`tiny_engine.py`": r"^from tiny_engine import",
    "`replies.json`": r"\"replies\.json\"",
    "`rules.yaml`": r"\"rules\.yaml\"",
    "`claude`": r"\[\"claude\"|exec claude|agents\.claude_code",
    "`mini`": r"\[\"mini\"",
    "an sshd": r"SSHTunnel\(",
}
"""What the line before an example says that it needs, by what is in it."""
REAL_AGENTS = ("claude", "mini")
TIMEOUT = 60
"""Seconds; each needs about one."""


@pytest.fixture
def agents_path(tmp_path: Path) -> str:
    """A PATH on which every real agent is the tiny one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in REAL_AGENTS:
        stand_in = folder / name
        stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{EXAMPLES / "tiny_agent.py"}" "$@"\n')
        stand_in.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def run(argv: list[str], *, cwd: Path, path: str = os.environ["PATH"]) -> str:
    """What a program prints; it must end well, and say nothing on stderr."""
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_runs(name: str, *, cwd: Path, path: str) -> None:
    """An example prints what its page says."""
    printed = run([str(EXAMPLES / name), *ARGUMENTS.get(name, ())], cwd=cwd, path=path)
    wanted = (EXAMPLES / name).with_suffix(".out").read_text()
    same = doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS)
    assert same, f"{name} printed:\n{printed}\nits page says:\n{wanted}"


@pytest.mark.once
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "read.py"])
def test_an_example_prints_what_its_page_says(name: str, tmp_path: Path, agents_path: str) -> None:
    assert_runs(name, cwd=tmp_path, path=agents_path)


def test_the_example_that_reads_reads_what_the_one_that_records_has_recorded(
    tmp_path: Path, agents_path: str
) -> None:
    for name in ("record.py", "read.py"):
        assert_runs(name, cwd=tmp_path, path=agents_path)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "passed"),
    [("test_application.py", 4), ("test_sync.py", 6), ("test_with_pytest.py", 2), ("test_handler.py", 7)],
)
def test_the_application_example_passes_under_pytest(name: str, passed: int, tmp_path: Path) -> None:
    mode = (
        ["-o", "trio_mode=true"] if name in ("test_application.py", "test_handler.py") else ["-p", "no:trio"]
    )
    options = ["-q", *mode, "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = ["-m", "pytest", "-c", str(tmp_path / "pytest.ini"), *options, str(EXAMPLES / name)]
    assert f"{passed} passed" in run(argv, cwd=tmp_path)


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PROGRAMS, *NOT_PROGRAMS}


def test_every_example_is_on_a_page() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    included = set(re.findall(r"\{literalinclude\} (?:\.\./)?examples/(\S+)", text))
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".json", ".yaml")} <= included


def test_the_example_that_cannot_do_without_an_argument_says_which() -> None:
    argv = [sys.executable, str(EXAMPLES / "agent_over_ssh.py")]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("usage: agent_over_ssh.py HOST")


def test_a_how_to_page_says_before_each_example_what_it_needs() -> None:
    silent = []
    for page in (DOCS / "how-to").glob("*.md"):
        paragraphs = page.read_text().split("\n\n")
        for before, block in itertools.pairwise(paragraphs):
            found = re.match(r"```\{literalinclude\} \.\./examples/(\w+\.py)\n```", block)
            if found is None:
                continue
            program = (EXAMPLES / found[1]).read_text()
            needed = [need for need, sign in NEEDS.items() if re.search(sign, program, re.MULTILINE)]
            line = before if re.search(r"\bneeds?\b", before) else ""
            silent += [(page.name, found[1], need) for need in needed if not says(line, need)]
    assert silent == []


def says(line: str, need: str) -> bool:
    """Two extras of a package may stand in one pair of brackets."""
    package, _, extra = need.partition("[")
    return package in line and extra.rstrip("]") in line


def test_whatever_a_page_includes_exists() -> None:
    for page in PAGES:
        for name in re.findall(r"\{literalinclude\} (\S+)", page.read_text()):
            assert (page.parent / name).is_file(), f"{page.name}: {name}"


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"\.\. (?:auto(?!module)\w+|py:data):: (\w+)", text))
    assert set(triocept.__all__) <= documented


def test_the_first_example_of_the_readme_runs_as_it_stands_and_prints_what_the_readme_shows(
    tmp_path: Path,
) -> None:
    found = re.search(r"```python\n(.*?)```\s+The program prints:\s+```\n(.*?)```", README, re.DOTALL)
    (tmp_path / "first.py").write_text(found[1])
    done = subprocess.run(
        [sys.executable, "first.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    printed, shown = (re.sub(r"r_[0-9a-f]+", "r_", text).split() for text in (done.stdout, found[2]))
    assert printed == shown


def test_the_test_in_the_readme_passes_as_it_stands(tmp_path: Path) -> None:
    found = re.search(r"```python\n(import openai\n.*?)```", README, re.DOTALL)
    (tmp_path / "test_readme.py").write_text(found[1])
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = ["-m", "pytest", "-q", "-p", "no:trio", "-p", "no:cacheprovider", "test_readme.py"]
    assert "1 passed" in run(argv, cwd=tmp_path)


def test_the_page_of_invariants_names_tests_that_exist_and_all_of_them() -> None:
    named = re.findall(r"`(test_invariant_\w+)`", (DOCS / "explanation" / "invariants.md").read_text())
    written = re.findall(r"def (test_invariant_\w+)\(", (ROOT / "tests" / "test_invariants.py").read_text())
    assert named == written
