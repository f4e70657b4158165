"""What fails a test late, or not at all; and what is said of several models."""

import pytest

from tests.plugin.conftest import Run, sections


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_what_a_handler_raises_behind_its_answer_fails_its_test_in_its_call_phase(
    run: Run, kind: str
) -> None:
    handler = {
        "async": "async def answer(exchange):\n    await exchange.respond('hello')\n    await trio.sleep(0.1)\n",
        "plain": "def answer(exchange):\n    exchange.respond('hello')\n    time.sleep(0.1)\n",
    }[kind]
    result = run(f"""
import time, trio
{handler}    raise KeyError("late")

def test_it(triocept_model):
    triocept_model(handler=answer)
    assert greet() == "hello"

def test_next(triocept_model):
    triocept_model("hello")
    assert greet() == "hello"
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_it - KeyError: 'late'"])


def test_a_handler_that_blocked_the_endpoint_for_long_is_a_warning_of_its_test(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._util.loop_watch.LONG", 0.5)
    monkeypatch.setattr("triocept._util.loop_watch.EVERY", 0.1)
    test = """
import time

async def answer(exchange):
    time.sleep(1.5)
    await exchange.respond("hello")

def test_it(triocept_model):
    triocept_model(handler=answer)
    assert greet() == "hello"
"""
    words = "RuntimeWarning: answer blocked triocept's*"
    result = run(test, "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines([f"*test_it.py:*: {words}"])
    result = run(test, "-Werror")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"FAILED *::test_it - {words}"])


def test_asyncio_in_an_async_handler_is_told_of_trio(run: Run) -> None:
    result = run("""
import asyncio

async def answer(exchange):
    await asyncio.sleep(0.1)

def test_it(triocept_model):
    triocept_model(handler=answer)
    greet()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *RuntimeError: no running event loop", "E *an async handler runs under trio*"]
    )


def test_of_several_models_it_is_said_which_has_replies_left_and_where_the_environment_led(run: Run) -> None:
    result = run("""
def test_it(triocept_model):
    triocept_model("a")
    triocept_model("b")
    assert greet() == "b"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *1 of 1 reply of model 0 was not used (no call came at all: the environment led to model 1,*"]
    )
    (section,) = sections(result)
    assert section.startswith("model 0: 0 calls\nmodel 1: 1 call\n")


def test_a_call_says_whether_replies_may_be_left_and_wins_over_the_mark(run: Run) -> None:
    result = run("""
def test_may(triocept_model):
    triocept_model("a", must_be_used=False)

@pytest.mark.triocept(must_be_used=False)
def test_may_not(triocept_model):
    triocept_model("a", must_be_used=True)

def test_one_may(triocept_model):
    triocept_model("a", must_be_used=False)
    triocept_model("b")
    assert greet() == "b"

def test_no_bool(triocept_model):
    triocept_model("a", must_be_used="no")
""")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "FAILED *::test_may_not *1 of 1 reply was not*",
            "FAILED *::test_no_bool *must_be_used must be a bool*",
        ]
    )


def test_a_mistake_names_the_fixture_and_no_function_behind_it(run: Run) -> None:
    result = run("""
def test_keyword(triocept_model):
    triocept_model("a", must_be_use=False)

def test_both(triocept_model):
    triocept_model("a", handler=print)
""")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E *TypeError: triocept_model() got an unexpected keyword argument 'must_be_use'; did you mean "
            "must_be_used?",
            "E *ValueError: triocept_model takes replies or a handler, not both",
        ]
    )


def test_of_a_cut_stream_the_report_says_what_was_sent_and_calls_it_no_refusal(run: Run) -> None:
    result = run("""
from triocept.handlers import Fault

def test_it(triocept_model):
    model = triocept_model(Fault.cut(after=2), Fault.cut(after=2), Fault.html(502), Fault.close())
    import openai
    with pytest.raises(Exception, match="."):
        for chunk in model.client("openai_chat", max_retries=0).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        ):
            pass
    for _ in range(3):
        try:
            ask("hi")
        except Exception:
            pass
    assert False
""")
    result.assert_outcomes(failed=1)
    (section,) = sections(result)
    assert "RawResponse" not in section
    assert "refused 200" not in section
    lines = [line.strip() for line in section.splitlines() if "→" in line]
    assert lines[0].startswith("→ 'The quick', as raw bytes: ")
    assert lines[0].endswith("of a body, then the connection was closed (HTTP status 200)")
    assert lines[1].startswith("→ raw bytes: ")
    assert lines[1].endswith("of a body, then the connection was closed (HTTP status 200)")
    assert lines[2].endswith("of a body, then the regular end of the body (HTTP status 502)")
    assert lines[3] == "→ raw bytes without a head: 0 bytes of a body, then the connection was closed"


EXPECTED = """
def answer(exchange):
    raise KeyError("city")

"""


def test_a_handlers_error_is_what_a_test_fails_with_that_is_expected_to_fail(run: Run) -> None:
    """It is the test's own code, and may say what is known to be wrong: an xfail that names no other error has it."""
    result = run(
        EXPECTED
        + """
def swallowed(triocept_model):
    triocept_model(handler=answer)
    assert greet() == "sorry"

@pytest.mark.xfail
def test_any(triocept_model):
    swallowed(triocept_model)

@pytest.mark.xfail(raises=KeyError, strict=True)
def test_this(triocept_model):
    swallowed(triocept_model)

@pytest.mark.xfail(raises=ValueError)
def test_another(triocept_model):
    swallowed(triocept_model)
""",
        "-rxf",
    )
    result.assert_outcomes(xfailed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_another - KeyError: 'city'"])


def test_an_xfail_in_the_test_itself_stays_and_has_the_handlers_error_beside_it(run: Run) -> None:
    result = run(
        EXPECTED
        + """
def test_says_so(triocept_model):
    triocept_model(handler=answer)
    greet()
    pytest.xfail("known")

@pytest.mark.xfail(raises=ValueError)
def test_fails_as_expected(triocept_model):
    triocept_model(handler=answer)
    greet()
    raise ValueError("known")
""",
        "-rxf",
        "-vv",
        "--show-capture=all",
        "--xfail-tb",
    )
    result.assert_outcomes(xfailed=2)
    result.stdout.fnmatch_lines(["*triocept: the handler of the test's model failed: KeyError: 'city'*"])
