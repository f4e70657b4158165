"""`tune_gc` changes the collector of the process that calls it, and of no other."""

from tests.programs import run_python

SHOW = "import gc; print(gc.get_threshold()[0], gc.get_freeze_count() > 1000)"


def test_tune_gc_makes_collections_rarer_and_freezes_what_exists() -> None:
    assert run_python(f"import triocept; triocept.tune_gc(); {SHOW}").stdout.split() == ["20000", "True"]


def test_a_program_that_only_imports_triocept_keeps_its_collector() -> None:
    plain = run_python("import gc; print(gc.get_threshold()[0], False)").stdout
    assert run_python(f"import triocept; {SHOW}").stdout == plain
