"""The fixture `triocept_model`: what it opens, where that leads, and how it ends."""

import pytest

from tests.plugin.conftest import Run


def test_the_environment_of_a_test_leads_to_its_model_and_is_put_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "as before")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    result = run("""
def test_it(triocept_model):
    model = triocept_model("hello")
    assert ask("hi") == "hello"
    assert os.environ["OPENAI_API_KEY"] == model.api_key
    assert [call.last.text for call in model.calls] == ["hi"]

def test_the_next():
    assert os.environ["OPENAI_API_KEY"] == "as before"
    assert "OPENAI_BASE_URL" not in os.environ
""")
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("fixtures", ["triocept_model, monkeypatch", "monkeypatch, triocept_model"])
def test_a_test_that_changes_the_same_variables_leaves_nothing_behind(
    run: Run, fixtures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "as before")
    result = run(f"""
def test_it({fixtures}):
    monkeypatch.setenv("OPENAI_API_KEY", "earlier")
    triocept_model("hello")
    assert ask("hi") == "hello"
    monkeypatch.setenv("OPENAI_API_KEY", "later")

def test_the_next():
    assert os.environ["OPENAI_API_KEY"] == "as before"
""")
    result.assert_outcomes(passed=2)


def test_of_two_models_the_environment_leads_to_the_one_that_was_opened_last(run: Run) -> None:
    result = run("""
def test_it(triocept_model):
    first = triocept_model("one")
    second = triocept_model("two")
    aside = triocept_model(environ=False)
    assert ask("hi") == "two"
    os.environ["OPENAI_API_KEY"] = first.api_key
    os.environ["OPENAI_BASE_URL"] = first.base_url("openai_chat")
    assert ask("hi") == "one"
    assert [len(model.trace) for model in (first, second, aside)] == [1, 1, 0]
""")
    result.assert_outcomes(passed=1)


def test_all_tests_have_one_endpoint_also_after_one_that_failed(run: Run) -> None:
    result = run("""
PORTS = []

@pytest.mark.parametrize("number", range(3))
def test_it(triocept_model, triocept_endpoint, number):
    assert triocept_model.endpoint is triocept_endpoint
    PORTS.append(triocept_endpoint.port)
    triocept_model(handler=lambda exchange: exchange.respond("hello") if number != 1 else 1 / 0)
    assert greet() == "hello"

def test_they_did():
    assert len(set(PORTS)) == 1 and len(PORTS) == 3
""")
    result.assert_outcomes(passed=3, failed=1)


def test_marks_have_options_the_nearest_wins_and_the_call_over_all(run: Run) -> None:
    result = run("""
pytestmark = pytest.mark.triocept(model="of the module", on_retry="new", environ=False)

@pytest.mark.triocept(model="of the class", environ=True)
class TestIt:
    def test_near(self, triocept_model):
        assert triocept_model().model == "of the class"
        assert "OPENAI_BASE_URL" in os.environ

    @pytest.mark.triocept(model="of the test")
    def test_nearest(self, triocept_model):
        assert triocept_model().model == "of the test"
        assert triocept_model(model="of the call").model == "of the call"

def test_far(triocept_model, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert triocept_model().model == "of the module"
    assert "OPENAI_BASE_URL" not in os.environ
""")
    result.assert_outcomes(passed=3)


def test_the_configuration_says_what_no_mark_does(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntriocept_must_be_used = false\ntriocept_environ = false")
    result = run("""
def test_far(triocept_model, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    triocept_model("nobody asks")
    assert "OPENAI_BASE_URL" not in os.environ

@pytest.mark.triocept(must_be_used=True)
def test_near(triocept_model):
    triocept_model("nobody asks")
""")
    result.assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize(("mark", "words"), [
    ("enviorn=False", "unexpected keyword argument 'enviorn'; did you mean environ?"),
    ("'hello'", "the mark takes only keyword arguments, not 'hello'"),
    ("environ='no'", "environ must be a bool, not str: 'no'"),
])  # fmt: skip
def test_a_mistake_in_a_mark_is_an_error_that_names_the_test(run: Run, mark: str, words: str) -> None:
    result = run(f"""
@pytest.mark.triocept({mark})
def test_it(triocept_model):
    triocept_model("hello")

def test_beside(triocept_model):
    triocept_model("hello")
    assert ask("hi") == "hello"
""")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([f"*test_it.py::test_it: @pytest.mark.triocept: *{words}*"])


@pytest.mark.parametrize(("mark", "words"), [
    ("casette=True", "unexpected keyword argument 'casette'; did you mean cassette?"),
    ("must_be_usd=False", "unexpected keyword argument 'must_be_usd'; did you mean must_be_used?"),
])  # fmt: skip
def test_a_mistake_in_the_mark_of_a_test_without_the_fixture_is_told_too(
    run: Run, mark: str, words: str
) -> None:
    result = run(f"""
@pytest.mark.triocept({mark})
def test_it():
    pass

@pytest.mark.triocept(record="once")
def test_beside():
    pass
""")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([f"*test_it.py::test_it: @pytest.mark.triocept: *{words}*"])


def test_a_mistake_in_a_call_is_an_error_of_that_call(run: Run) -> None:
    result = run("""
def test_it(triocept_model):
    with pytest.raises(TypeError, match="unexpected keyword argument 'handlr'; did you mean handler\\\\?"):
        triocept_model(handlr=print)
    with pytest.raises(ValueError, match="replies or a handler"):
        triocept_model("hello", handler=print)
    with pytest.raises(TypeError, match="write triocept_model.\\\\*replies"):
        triocept_model(replies=["hello"])
    with pytest.raises(TypeError, match="environ must be a bool"):
        triocept_model("hello", environ=1)
    with pytest.raises(TypeError, match="replies.0. is not a reply"):
        triocept_model(None)
""")
    result.assert_outcomes(passed=1)


def test_a_model_of_a_whole_class_is_refused_and_told_how(run: Run) -> None:
    result = run("""
@pytest.fixture(scope="class")
def model(triocept_model):
    return triocept_model("hello")

class TestIt:
    def test_it(self, model):
        assert ask("hi") == "hello"
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*triocept_model belongs to one test: a fixture with a wider scope must take triocept_endpoint*"]
    )


def test_what_outlives_its_test_is_told_that_no_test_runs(run: Run) -> None:
    result = run("""
KEPT = []

def test_it(triocept_model):
    KEPT.extend([triocept_model, triocept_model()])

def test_later():
    with pytest.raises(RuntimeError, match="::test_it has ended: its triocept_model cannot"):
        KEPT[0]("hello")
    with pytest.raises(Exception, match="has ended"):
        KEPT[1].next(timeout=5)
    assert len(KEPT[1].trace) == 0
""")
    result.assert_outcomes(passed=2)


def test_an_endpoint_of_the_projects_own_takes_the_place_of_the_sessions(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest("""
import pytest, triocept.testing

@pytest.fixture(scope="session")
def triocept_endpoint():
    with triocept.testing.serve(max_body=300) as endpoint:
        yield endpoint
""")
    result = run("""
def test_it(triocept_model):
    triocept_model("hello")
    assert ask("hi") == "hello"
    with pytest.raises(RuntimeError, match="300"):
        ask("hi" * 300)
""")
    result.assert_outcomes(passed=1)


def test_an_endpoint_that_could_not_start_is_tried_again_by_the_next_test(run: Run) -> None:
    result = run("""
import triocept.testing
SERVE, TRIED = triocept.testing.serve, []

def serve(**options):
    TRIED.append(1)
    if len(TRIED) < 3:
        raise OSError("no port is left")
    return SERVE(**options)

triocept.testing.serve = serve

def teardown_module():
    triocept.testing.serve = SERVE

@pytest.mark.parametrize("number", range(4))
def test_it(triocept_model, number):
    triocept_model("hello")
    assert ask("hi") == "hello"
    assert len(TRIED) == 3
""")
    result.assert_outcomes(errors=2, passed=2)


def test_a_fixture_that_uses_the_model_may_do_so_until_its_own_end(run: Run) -> None:
    result = run("""
@pytest.fixture
def application(triocept_model):
    triocept_model(handler=lambda exchange: exchange.respond(exchange.request.last.text))
    assert ask("begins") == "begins"
    yield
    assert ask("ends") == "ends"

def test_it(application):
    assert ask("lives") == "lives"
""")
    result.assert_outcomes(passed=1)


def test_unittests_have_it_by_a_fixture_that_all_of_a_class_use(run: Run) -> None:
    result = run("""
import unittest

class Case(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def fake_model(self, triocept_model):
        self.fake_model = triocept_model

    def test_right(self):
        self.fake_model("hello")
        assert ask("hi") == "hello"

    def test_swallowed(self):
        self.fake_model(handler=lambda exchange: 1 / 0)
        assert greet() == "sorry"

    def test_left(self):
        self.fake_model("hello", "again")
        assert greet() == "hello"

    @unittest.skip("not now")
    def test_skipped(self):
        self.fake_model("hello")

class Async(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def fake_model(self, triocept_model):
        self.fake_model = triocept_model

    async def test_swallowed(self):
        self.fake_model(handler=lambda exchange: 1 / 0)
        assert greet() == "sorry"
""")
    result.assert_outcomes(passed=1, failed=3, skipped=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*", "*1 of 2 replies was not *"])


def test_a_doctest_has_it_too(run: Run, pytester: pytest.Pytester) -> None:
    pytester.maketxtfile(
        test_doc="""
>>> from application import ask
>>> model = getfixture("triocept_model")("hello")
>>> ask("hi")
'hello'
"""
    )
    run("def test_it(): assert True").assert_outcomes(passed=2)


def test_a_fixture_that_is_asked_for_by_name_alone_loses_no_error(run: Run) -> None:
    """Only of the very first one pytest learns too late that the test itself fails."""
    result = run("""
def test_it(request):
    request.getfixturevalue("triocept_model")(handler=lambda exchange: 1 / 0)
    assert greet() == "sorry"

def test_next(request):
    request.getfixturevalue("triocept_model")(handler=lambda exchange: 1 / 0)
    assert greet() == "sorry"
""")
    result.assert_outcomes(passed=1, errors=1, failed=1)


def test_the_fixture_taken_for_a_model_says_what_opens_one(run: Run) -> None:
    result = run("""
def test_calls(triocept_model):
    triocept_model.calls

def test_with(triocept_model):
    with triocept_model(must_be_used=False) as model:
        pass

def test_slip(triocept_model):
    triocept_model.cals
""")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*AttributeError: triocept_model has no 'calls': call it to open a model, `model = triocept_model(…)`; "
            "the model has `model.calls`",
            "*TypeError: the model is already open, *: write `model = triocept_model(…)`, without `with`",
            "*AttributeError: triocept_model has no 'cals'",
        ]
    )


def test_a_test_that_fails_and_has_called_the_fixture_nowhere_is_told_so(run: Run) -> None:
    result = run("""
import pytest

@pytest.fixture(autouse=True)
def around(triocept_model):
    yield

def test_asked_for(triocept_model):
    assert 0

def test_all_have_it():
    assert 0

class TestClass:
    async def helper(self):
        ...
    def test_method(self, triocept_model):
        assert 0

def test_its_argument_raises(triocept_model):
    triocept_model(pytest.no_such_name)
""")
    result.assert_outcomes(failed=4)
    assert result.stdout.str().count("triocept_model was not called, so there was no model") == 2


def test_a_test_that_fails_in_a_frame_without_source_does_not_end_the_session(run: Run) -> None:
    result = run("""
import os

def test_it(triocept_model):
    os.environ["NO_SUCH_VARIABLE_AT_ALL"]
""")
    result.assert_outcomes(failed=1)
    assert "triocept_model was not called, so there was no model" in result.stdout.str()


def test_an_async_client_that_outlives_the_loop_of_a_test_reaches_the_next_model(run: Run) -> None:
    result = run("""
import asyncio, httpx2
CLIENT = httpx2.AsyncClient()  # as openai-agents keeps one

@pytest.mark.parametrize("number", range(4))
def test_it(triocept_model, number):
    model = triocept_model("hello")
    head = {"authorization": f"Bearer {model.api_key}"}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    url = model.base_url("openai_chat") + "/chat/completions"

    async def ask():
        return await CLIENT.post(url, json=body, headers=head)

    assert asyncio.run(ask()).status_code == 200
""")
    result.assert_outcomes(passed=4)
