"""The machine that changes the program in one place does what it says: of a toy module, in a second."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="the changes are cosmic-ray's; `nox -s mutants` installs it")

from cosmic_ray.mutating import mutate_code

from tests.mutants import table
from tests.mutants.__main__ import ROOT
from tests.mutants.equivalent import EQUIVALENT, change_of
from tests.mutants.operators import ArgumentLeftOut, ReturnNone, StatementLeftOut
from tests.mutants.possible import Mutant, mutants_of, mutated, says_another
from tests.mutants.session import FailsUnchanged, Fate, Result, Session, sampled, score
from tests.mutants.stage import Stage, copied

pytestmark = pytest.mark.once

TOY = '''\
"""A toy: `import sys` is 2 words."""

from __future__ import annotations

import logging
from typing import Final, TypeAlias, final

__all__ = ["Toy", "larger", *("half",)]
log = logging.getLogger("toy" + "s")
Number: TypeAlias = int | float
PATIENCE: Final[int | float] = 300


def larger(a: int | float, b: int | float) -> int | float:
    return a if a > b else b


def small(number: Number) -> bool:
    log.warning("asked of %s", number + 1)
    return number < 5


@final
class Toy:
    def __repr__(self) -> str:
        return "toy" if self else "none"
'''
TESTS = """\
import subprocess, sys
import toy

def test_small():
    assert toy.small(4) and not toy.small(6)
    toy.larger(1, 2)

def test_small_in_a_program(tmp_path):
    code = "import toy; assert toy.small(4)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={}, check=True)
"""
HANGS = """\
import toy

def test_it():
    while not toy.small(4):
        pass
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    for name, text in {"toy.py": TOY, "test_toy.py": TESTS, "test_hang.py": HANGS}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = once\n")
    shutil.copy(ROOT / "triocept_pytest.py", tmp_path)  # pytest loads it wherever triocept is installed
    with copied(tmp_path) as stage:
        yield stage


def the(operator: str, line: str) -> Mutant:
    """The first mutant of this operator in the line that begins so."""
    number = next(n for n, each in enumerate(TOY.splitlines(), 1) if each.strip().startswith(line))
    return next(m for m in mutants_of("toy.py", TOY) if (m.operator, m.line) == (operator, number))


def session_of(stage: Stage, *tests: str, seconds: float = 120, **more: object) -> Session:
    return Session(stage, seconds=seconds, tests=lambda file: tests, **more)  # type: ignore[arg-type]


def test_a_mutant_that_a_test_sees_is_killed_and_one_that_none_sees_survives(stage: Stage) -> None:
    session = session_of(stage, "test_toy.py")
    seen = session.judge(the("ReturnNone", "return number"))
    unseen = session.judge(the("ReplaceComparisonOperator_Lt_LtE", "return number"))
    assert (seen.fate, seen.note) == (Fate.KILLED, "test_toy.py::test_small")
    assert unseen.fate is Fate.SURVIVED
    assert "-    return number < 5\n+    return number <= 5" in unseen.diff
    assert (stage.root / "toy.py").read_text() == TOY


def test_what_a_test_starts_as_a_program_is_the_mutant_too(stage: Stage) -> None:
    """In another folder, and without an environment."""
    (stage.root / "test_toy.py").write_text(TESTS.replace("def test_small()", "def left_out()"))
    killed = session_of(stage, "test_toy.py").judge(the("ReturnNone", "return number"))
    assert (killed.fate, killed.note) == (Fate.KILLED, "test_toy.py::test_small_in_a_program")


def test_the_copys_python_imports_the_copy_and_the_packages_of_this_one(stage: Stage) -> None:
    code = "import msgspec, toy; print(toy.__file__)"
    told = subprocess.run([stage.python, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(stage.root / "toy.py")


def test_a_mutant_that_hangs_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutants.session.SPARE", 1.0)
    hung = session_of(stage, "test_hang.py").judge(the("ReturnNone", "return number"))
    assert hung.fate is Fate.TIMED_OUT


def test_a_mutant_that_is_run_again_has_all_the_time_that_it_takes(stage: Stage) -> None:
    killed = session_of(stage, "test_toy.py", seconds=inf).judge(the("ReturnNone", "return number"))
    assert killed.fate is Fate.KILLED


def test_a_run_that_the_end_of_the_time_breaks_off_says_nothing_of_the_mutant(stage: Stage) -> None:
    cut = session_of(stage, "test_hang.py", seconds=0).judge(the("ReturnNone", "return number"))
    assert cut.fate is Fate.UNFINISHED


def test_a_mutant_that_is_listed_as_equivalent_is_not_run_and_its_reason_is_told(stage: Stage) -> None:
    mutant = the("ReplaceComparisonOperator_Gt_GtE", "return a if")
    change = ("toy.py", "return a if a > b else b", "return a if a >= b else b")
    assert change_of("toy.py", TOY, mutated(TOY, mutant)) == change
    result = session_of(stage, "no_such_test.py", equivalent={change: "equal numbers are one"}).judge(mutant)
    assert (result.fate, result.note) == (Fate.EQUIVALENT, "equal numbers are one")


def test_tests_that_fail_without_a_mutant_end_the_run(stage: Stage) -> None:
    (stage.root / "test_toy.py").write_text("def test_it(): assert False")
    with pytest.raises(FailsUnchanged, match=r"test_toy\.py fail without a mutant"):
        session_of(stage, "test_toy.py").judge(the("ReturnNone", "return number"))


def test_what_no_test_can_be_expected_to_guard_is_no_mutant() -> None:
    lines = {TOY.splitlines()[mutant.line - 1].strip() for mutant in mutants_of("toy.py", TOY)}
    assert lines == {'log = logging.getLogger("toy" + "s")', "return a if a > b else b", "return number < 5"}


@pytest.mark.parametrize("operator", [ArgumentLeftOut, StatementLeftOut, ReturnNone])
def test_our_operators_do_what_their_examples_say(operator: type) -> None:
    for example in operator.examples():  # type: ignore[attr-defined]
        changed = mutate_code(example.pre_mutation_code, operator(), example.occurrence)
        assert changed == example.post_mutation_code


def test_a_change_that_is_no_program_or_the_same_one_says_nothing_else() -> None:
    assert not says_another("f(a, b)", "f(a, ,)")
    assert not says_another("f(a)", "f(a,)")
    assert says_another("f(a)", "f()")


def test_any_beginning_of_a_sample_is_spread_over_the_files_and_the_seed_alone_decides() -> None:
    mutants = [Mutant(file=f, line=n, operator="AddNot", occurrence=n) for f in "abcd" for n in range(50)]
    assert sampled(mutants, 7) == sampled(list(reversed(mutants)), 7) != sampled(mutants, 8)
    for count in (20, 40, 100):
        files = [mutant.file for mutant in sampled(mutants, 7)[:count]]
        assert all(abs(files.count(f) - count / 4) <= 1 for f in "abcd")


def test_the_name_of_a_mutant_is_what_runs_it_again() -> None:
    mutant = the("ReturnNone", "return number")
    assert Mutant.of(str(mutant)) == mutant
    with pytest.raises(ValueError, match="there is no operator 'Nothing'"):
        Mutant.of("toy.py:1:Nothing:0")
    with pytest.raises(ValueError, match="no such place"):
        mutated(TOY, Mutant(file="toy.py", line=1, operator="AddNot", occurrence=99))


def test_the_score_counts_what_was_judged() -> None:
    mutant = Mutant(file="triocept/_trace/turn.py", line=1, operator="AddNot", occurrence=0)
    fates = (Fate.KILLED, Fate.TIMED_OUT, Fate.SURVIVED, Fate.KILLED, Fate.EQUIVALENT, Fate.UNFINISHED)
    folder, everything = score(Result(mutant=mutant, fate=fate) for fate in fates)
    assert "triocept/_trace " in folder
    assert "3 of 4    killed    75%   1 say the same" in everything


def test_each_file_has_tests_and_all_of_them_are_there() -> None:
    for file in table.files(ROOT):
        assert all((ROOT / test).is_file() for test in table.tests_of(file)), file
    assert all((ROOT / place).exists() for place in table.TESTS)


def test_each_mutant_that_is_listed_as_equivalent_is_still_one() -> None:
    for file in {file for file, _, _ in EQUIVALENT}:
        source = (ROOT / file).read_text()
        found = {change_of(file, source, mutated(source, mutant)) for mutant in mutants_of(file, source)}
        assert {change for change in EQUIVALENT if change[0] == file} - found == set()


def test_the_program_lists_its_mutants() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tests.mutants", "--list", "--only", "retries"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "triocept/_rollout/retries.py:" in told.stdout.splitlines()[0]
