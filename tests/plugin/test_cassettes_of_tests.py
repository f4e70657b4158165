"""`@pytest.mark.triocept(cassette=True)`: a file for each test, and who is recorded in it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugin.conftest import PLUGIN, Run, sections
from triocept.testing import SyncExchange, SyncRollout, fake_model

pytestmark = pytest.mark.usefixtures("upstream")

MARKED = """
@pytest.mark.triocept(cassette=True)
def test_it():
    assert ask("hi") == "you said hi"
"""
CASSETTE = Path("cassettes", "test_it", "test_it.yaml")
ONCE, NEW, REWRITE = (f"--triocept-record={mode}" for mode in ("once", "new", "rewrite"))


@pytest.fixture
def upstream(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncRollout]:
    """A real model, which the project is told of."""

    def answer(exchange: SyncExchange) -> None:
        last = exchange.request.last
        exchange.respond(f"you said {last.text if last is not None else ''}")

    with fake_model(handler=answer, environ=False) as model:
        pytester.makeini(f"[pytest]\ntriocept_upstream = {model.base_url('openai_chat')}")
        monkeypatch.setenv("OPENAI_API_KEY", model.api_key)
        yield model


def test_a_cassette_is_recorded_once_and_answers_without_the_model(run: Run, upstream: SyncRollout) -> None:
    run(MARKED, ONCE).assert_outcomes(passed=1)
    assert "you said hi" in CASSETTE.read_text()
    assert upstream.api_key not in CASSETTE.read_text()
    run(MARKED).assert_outcomes(passed=1)
    run(MARKED, ONCE).assert_outcomes(passed=1)
    assert len(upstream.calls) == 1


def test_what_a_failed_test_has_recorded_is_not_written_and_that_is_said(run: Run) -> None:
    result = run(MARKED.replace("you said hi", "something else"), ONCE)
    result.assert_outcomes(failed=1)
    assert not CASSETTE.exists()
    assert ["recorded now: 1 (not written" in text for text in sections(result)] == [True]


def test_a_unittest_that_fails_writes_nothing_either(run: Run) -> None:
    result = run(
        """
import unittest

@pytest.mark.triocept(cassette=True)
class Case(unittest.TestCase):
    def test_right(self):
        assert ask("hi") == "you said hi"

    def test_wrong(self):
        assert ask("hi") == "something else"
""",
        ONCE,
    )
    result.assert_outcomes(passed=1, failed=1)
    assert [path.name for path in Path("cassettes", "test_it").iterdir()] == ["Case.test_right.yaml"]


def test_a_call_that_is_not_recorded_fails_its_test_and_names_the_option(
    run: Run, upstream: SyncRollout
) -> None:
    run(MARKED, ONCE)
    result = run(MARKED.replace('"hi"', '"ho"'))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ReplayMiss: *", "*--triocept-record=new*"])
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("mode", [ONCE, NEW, REWRITE])
def test_a_wrong_key_fails_the_test_though_the_application_swallows_it_and_is_not_recorded(
    run: Run, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    swallowing = MARKED.replace('ask("hi") == "you said hi"', 'greet("hi") == "sorry"')
    result = run(swallowing, mode)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *RecordingFailed: the provider refused the API key (401: *); nothing was recorded.*"]
    )
    assert not CASSETTE.exists()
    run(swallowing.replace("cassette=True", "cassette=True, record_auth_errors=True"), mode).assert_outcomes(
        passed=1
    )
    assert "status: 401" in CASSETTE.read_text()


def test_a_call_that_is_not_recorded_where_there_is_no_file_names_once(run: Run) -> None:
    result = run(MARKED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *ReplayMiss: *there is no file *test_it.yaml.", "*--triocept-record=once. *"]
    )


def test_new_calls_are_added_and_a_rewritten_cassette_has_no_others(run: Run, upstream: SyncRollout) -> None:
    run(MARKED, ONCE)
    more = MARKED + '    assert ask("more") == "you said more"\n'
    run(more, ONCE).assert_outcomes(failed=1)
    run(more, NEW).assert_outcomes(passed=1)
    assert [call.last.text for call in upstream.calls if call.last] == ["hi", "more"]
    run(more).assert_outcomes(passed=1)
    run(MARKED, REWRITE).assert_outcomes(passed=1)
    assert "you said more" not in CASSETTE.read_text()


def test_what_is_recorded_and_not_asked_fails_the_test_unless_that_is_allowed(run: Run) -> None:
    run(MARKED + '    assert ask("more") == "you said more"\n', ONCE)
    result = run(MARKED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *these recorded calls were not made again*must_be_used=False*", "E *call 2 (*test_it.yaml:*"]
    )
    run(MARKED.replace("cassette=True", "cassette=True, must_be_used=False")).assert_outcomes(passed=1)


def test_a_cassette_that_nobody_asks_anything_is_told_apart(run: Run) -> None:
    run(MARKED, ONCE)
    result = run(MARKED.replace('ask("hi")', '"you said hi"'))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no call came at all: was the client built before the model*"])


def test_a_test_may_have_the_model_of_its_cassette_in_its_hands_and_others_beside(run: Run) -> None:
    result = run(
        """
@pytest.mark.triocept(cassette=True, model="gpt-5")
def test_it(triocept_model):
    model = triocept_model()
    assert model is triocept_model() and model.model == "gpt-5"
    assert ask("hi") == "you said hi"
    assert [call.last.text for call in model.calls] == ["hi"]
    triocept_model("scripted")
    assert ask("hi") == "scripted"
    assert [call.response.text for call in triocept_model.cassette.recorded] == ["you said hi"]
""",
        ONCE,
    )
    result.assert_outcomes(passed=1)


def test_a_file_is_named_for_module_class_test_and_parameters(run: Run) -> None:
    result = run(
        """
@pytest.mark.triocept(cassette=True)
class TestIt:
    class TestInner:
        @pytest.mark.parametrize("text", ["a/b:c", "x"])
        def test_it(self, text):
            assert ask(text) == f"you said {text}"

    @pytest.mark.triocept(cassette="shared")
    def test_named(self):
        assert ask("hi") == "you said hi"
""",
        ONCE,
    )
    result.assert_outcomes(passed=3)
    assert sorted(str(path) for path in Path("cassettes").rglob("*.yaml")) == [
        "cassettes/shared.yaml",
        "cassettes/test_it/TestIt.TestInner.test_it[a-b-c].yaml",
        "cassettes/test_it/TestIt.TestInner.test_it[x].yaml",
    ]


def test_names_that_are_too_long_for_a_file_are_cut_and_stay_different(run: Run) -> None:
    name = f"test_{'ü' * 200}"
    result = run(
        f"""
@pytest.mark.triocept(cassette=True)
class TestIt:
    def {name}_1(self):
        assert ask("one") == "you said one"

    def {name}_2(self):
        assert ask("two") == "you said two"
""",
        ONCE,
    )
    result.assert_outcomes(passed=2)
    names = [path.name.encode() for path in Path("cassettes", "test_it").iterdir()]
    assert len(names) == 2
    assert all(len(each) < 220 for each in names)


SHARED = """
@pytest.mark.triocept(cassette="shared")
@pytest.mark.parametrize("text", ["a", "b", "c", "d"])
def test_it(text):
    assert ask(text) == f"you said {text}"
    assert ask("the same") == "you said the same"
"""


@pytest.mark.parametrize("mode", [NEW, REWRITE])
def test_tests_that_share_a_cassette_record_it_together(run: Run, mode: str) -> None:
    run(MARKED.replace("True", "'shared'"), NEW).assert_outcomes(passed=1)
    run(SHARED, mode).assert_outcomes(passed=4)
    text = Path("cassettes", "shared.yaml").read_text()
    assert text.count("- call:") == (6 if mode == NEW else 5)
    run(SHARED).assert_outcomes(passed=4)


@pytest.mark.once
@pytest.mark.parametrize("mode", [NEW, REWRITE])
def test_tests_that_share_a_cassette_record_it_together_in_several_processes(
    run: Run, pytester: pytest.Pytester, mode: str
) -> None:
    run(MARKED.replace("True", "'shared'"), NEW).assert_outcomes(passed=1)
    run(SHARED, "--collect-only")
    result = pytester.runpytest_subprocess(*PLUGIN, "-n", "2", "-p", "xdist", mode, timeout=120)
    result.assert_outcomes(passed=4)
    text = Path("cassettes", "shared.yaml").read_text()
    assert text.count("- call:") == (6 if mode == NEW else 5)
    run(SHARED).assert_outcomes(passed=4)


def test_a_test_whose_end_fails_writes_nothing(run: Run) -> None:
    result = run(
        """
@pytest.fixture
def application(triocept_model):
    yield
    assert ask("bye") == "something else"

@pytest.mark.triocept(cassette=True)
def test_it(application):
    assert ask("hi") == "you said hi"
""",
        ONCE,
    )
    result.assert_outcomes(passed=1, errors=1)
    assert not CASSETTE.exists()


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="this pytest has no subtests of its own")
def test_a_test_of_which_a_part_failed_writes_nothing(run: Run) -> None:
    result = run(
        """
@pytest.mark.triocept(cassette=True)
def test_it(subtests):
    with subtests.test("a part"):
        assert ask("hi") == "something else"
    assert ask("more") == "you said more"
""",
        ONCE,
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not CASSETTE.exists()


def test_a_place_where_nothing_can_be_written_is_told_before_the_model_is_asked(
    run: Run, upstream: SyncRollout
) -> None:
    Path("file").touch()
    result = run(MARKED, ONCE, "-o", "triocept_cassettes=file")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*test_it.py::test_it: the cassette of this test cannot be used: *Not a directory: *file'"]
    )
    assert upstream.calls == []


def test_a_disk_that_is_full_is_an_error_that_names_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    result = run(MARKED, ONCE)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*::test_it: the cassette of this test cannot be written: *No space*test_it.yaml'"]
    )
    assert list(CASSETTE.parent.iterdir()) == []


def test_a_cassette_that_was_to_be_recorded_anew_and_was_asked_nothing_stays_and_fails_its_test(
    run: Run,
) -> None:
    run(MARKED, ONCE)
    before = CASSETTE.read_bytes()
    result = run(MARKED.replace('ask("hi")', '"you said hi"'), REWRITE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no call was made, so *test_it.yaml was not recorded again; no call came*"])
    assert CASSETTE.read_bytes() == before


def test_two_tests_of_one_file_are_named_and_neither_runs(run: Run, upstream: SyncRollout) -> None:
    result = run(
        """
@pytest.mark.triocept(cassette=True)
@pytest.mark.parametrize("text", ["a/b", "A:b", "c"])
def test_it(text):
    assert ask(text) == f"you said {text}"
""",
        ONCE,
    )
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*test_it?a-b?.yaml would be the cassette of *test_it?a/b? and of *test_it?A:b?: give the parameters*"
        ]
    )
    assert len(upstream.calls) == 1


@pytest.mark.parametrize(("mark", "ini", "words"), [
    ("", "", "there is no real model to record from: set its base URL as triocept_upstream"),
    ("", "triocept_upstream = https://api.openai.com/v1", "set the variable OPENAI_API_KEY"),
    ("", "triocept_upstream = https://api.anthropic.com", "set the variable ANTHROPIC_API_KEY"),
    (", dialect='klingon'", "triocept_upstream = http://localhost:1", "there is no dialect 'klingon'"),
    (", api_key_env='NOBODYS_KEY'", "triocept_upstream = http://localhost:1",
     "set the variable NOBODYS_KEY"),
    (", recrod='once'", "", "unexpected keyword argument 'recrod'; did you mean record?"),
    (", record='twice'", "", "record must be 'none', 'once', 'new' or 'rewrite', not 'twice'"),
    (", record='once', upstream='ftp://x'", "", "must be an http or https URL"),
    (", upstream=7", "", "upstream, unless it is a handler, must be a str, not int: 7"),
])  # fmt: skip
def test_a_mistake_in_what_is_recorded_is_told_before_the_test_begins(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mark: str, ini: str, words: str
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini(f"[pytest]\n{ini}")
    recording = () if "record" in mark or "recrod" in mark else (ONCE,)
    result = run(MARKED.replace("cassette=True", f"cassette=True{mark}"), *recording)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*test_it.py::test_it*{words.replace('[', '?')}*"])


def test_the_environment_says_who_is_recorded_and_in_what_dialect(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, upstream: SyncRollout
) -> None:
    pytester.makeini(
        "[pytest]\ntriocept_record = once\ntriocept_api_key_env = THE_KEY\ntriocept_cassettes = tapes"
    )
    monkeypatch.setenv("TRIOCEPT_UPSTREAM", upstream.base_url("anthropic_messages"))
    monkeypatch.setenv("TRIOCEPT_DIALECT", "anthropic_messages")
    monkeypatch.setenv("THE_KEY", upstream.api_key)
    run(MARKED).assert_outcomes(passed=1)
    assert [turn.dialect for turn in upstream.trace] == ["anthropic_messages"]
    assert Path("tapes", "test_it", "test_it.yaml").exists()


def test_a_project_says_for_all_its_cassettes_what_differs_from_run_to_run(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest("""
import pytest
from triocept.testing import normalize

@pytest.fixture
def triocept_cassette_options(tmp_path):
    return {"normalise_text": normalize(tmp_path)}
""")
    tests = """
@pytest.mark.triocept(cassette=True)
def test_it(tmp_path):
    assert ask(f"look at {tmp_path}/a.txt").startswith("you said look at ")
"""
    run(tests, ONCE).assert_outcomes(passed=1)
    run(tests).assert_outcomes(passed=1)
    run(tests.replace("a.txt", "b.txt")).assert_outcomes(failed=1)


def test_a_cassette_that_was_edited_by_hand_and_cannot_be_read_says_where(run: Run) -> None:
    run(MARKED, ONCE)
    CASSETTE.write_text(CASSETTE.read_text().replace("calls:", "cells:"))
    result = run(MARKED)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*test_it.py::test_it: the cassette of this test cannot be used: *test_it.yaml*"]
    )
