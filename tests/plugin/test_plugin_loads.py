"""What pytest loads of triocept, and when: of a project that has no use for it, nothing."""

import pytest

from tests.plugin.conftest import OTHERS, PLUGIN

RUN = (*PLUGIN, *OTHERS)


def test_a_project_that_does_not_use_it_loads_nothing_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import sys

def test_it():
    assert "triocept_pytest" in sys.modules
    assert "triocept" not in sys.modules
""")
    pytester.runpytest_subprocess(*RUN, timeout=120).assert_outcomes(passed=1)


def test_a_project_that_uses_it_has_it_before_the_clock_of_its_first_test_runs(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("""
import sys

def test_it():
    assert "triocept._server.serve" in sys.modules

def test_another(triocept_model):
    assert triocept_model
""")
    pytester.runpytest_subprocess(*RUN, timeout=120).assert_outcomes(passed=2)


def test_a_list_of_the_tests_loads_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
import sys

def pytest_unconfigure():
    print("loaded" if "triocept" in sys.modules else "not loaded")
""")
    pytester.makepyfile("def test_it(triocept_model): assert triocept_model")
    result = pytester.runpytest_subprocess(*RUN, "--collect-only", "-q", timeout=120)
    result.stdout.fnmatch_lines(["*::test_it", "not loaded"])


def test_the_asserts_of_triocept_are_not_rewritten_and_a_projects_own_are(pytester: pytest.Pytester) -> None:
    """As pytest would do it where the wheel is installed, and not this checkout."""
    pytester.makeconftest("import pytest; pytest.register_assert_rewrite('triocept')")
    pytester.makepyfile("""
import triocept.testing

def test_it():
    assert "Rewriting" not in type(triocept.testing.__loader__).__name__
    assert "Rewriting" not in type(triocept.__loader__).__name__
    assert "Rewriting" in type(__loader__).__name__
""")
    pytester.runpytest_subprocess(*RUN, timeout=120).assert_outcomes(passed=1)


def test_what_it_offers_is_told_by_pytest_itself(pytester: pytest.Pytester) -> None:
    fixtures = pytester.runpytest_inprocess(*RUN, "--fixtures", "-q")
    fixtures.stdout.fnmatch_lines(["triocept_endpoint*", "*one endpoint for the session*", "triocept_model*"])
    assert fixtures.ret == 0
    pytester.runpytest_inprocess(*RUN, "--markers").stdout.fnmatch_lines(["@pytest.mark.triocept(*"])


def test_without_the_plugin_there_is_no_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(triocept_model): assert triocept_model")
    name = "no:triocept_pytest" if PLUGIN else "no:triocept"
    result = pytester.runpytest_inprocess(*OTHERS, "-p", name)
    result.assert_outcomes(errors=1)
