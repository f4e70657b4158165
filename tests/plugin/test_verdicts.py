"""What a test fails with where its model has something to say of it; and what its report shows."""

import pytest

from tests.plugin.conftest import OTHERS, PLUGIN, Run, sections

HANDLER = """
def answer(exchange):
    raise KeyError("city")
"""


def test_a_handlers_error_is_the_tests_though_the_application_swallows_the_500(run: Run) -> None:
    result = run(
        HANDLER
        + """
def test_it(triocept_model):
    triocept_model(handler=answer)
    assert greet() == "sorry"
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["> * def test_it*", '>*raise KeyError("city")', "FAILED *::test_it - KeyError: 'city'"]
    )


def test_an_error_that_quotes_the_500_stands_before_the_handlers_own(run: Run) -> None:
    result = run("""
def answer(exchange):
    try:
        {}["city"]
    except KeyError as exc:
        raise LookupError("no such place") from exc

def test_it(triocept_model):
    triocept_model(handler=answer)
    try:
        ask("hi")
    except RuntimeError as exc:
        raise ValueError("the application failed") from exc
""")
    result.assert_outcomes(failed=1)
    chain = [
        "E *RuntimeError: *the program that answers this call failed (LookupError)*",
        "E *ValueError: the application failed",
    ]
    chain += [
        "E *KeyError: 'city'",
        "E *LookupError: no such place",
        "FAILED *::test_it - LookupError: no such place",
    ]
    result.stdout.fnmatch_lines(chain)


def test_an_error_within_a_group_that_quotes_the_500_counts_as_such(run: Run) -> None:
    result = run(
        HANDLER
        + """
def test_it(triocept_model):
    triocept_model(handler=answer)
    try:
        ask("hi")
    except RuntimeError as exc:
        raise ExceptionGroup("tasks", [exc])
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_it - KeyError: 'city'"])


def test_a_failure_of_the_tests_own_stays_and_has_the_handlers_beside_it(run: Run) -> None:
    result = run(
        HANDLER
        + """
def test_it(triocept_model):
    triocept_model(handler=answer)
    assert greet() == "hello"
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError: assert 'sorry' == 'hello'",
            "E *triocept: the handler of the test's model failed: KeyError: 'city'",
            "*- triocept -*",
            '*raise KeyError("city")',
            "FAILED *::test_it - AssertionError: assert 'sorry' == 'hello'*",
        ]
    )


def test_a_group_that_a_handler_raised_is_its_error_once_and_whole(run: Run) -> None:
    result = run("""
def answer(exchange):
    raise ExceptionGroup("of a nursery", [KeyError("city"), ValueError("far")])

def test_it(triocept_model):
    triocept_model(handler=answer)
    assert greet() == "sorry"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*FAILED *::test_it - ExceptionGroup: of a nursery (2 sub-exceptions)"])


def test_several_errors_of_handlers_are_a_group(run: Run) -> None:
    result = run(
        HANDLER
        + """
def test_it(triocept_model):
    triocept_model(handler=answer)
    assert greet() == "sorry"
    triocept_model(handler=lambda exchange: 1 / 0)
    assert greet() == "sorry"
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*2 errors of handlers*", "*KeyError*", "*ZeroDivisionError*"])


@pytest.mark.parametrize(("test", "words"), [
    ("triocept_model('one', 'two'); greet()", "1 of 2 replies was not used (1 call came):"),
    ("triocept_model('one')", "no call came at all: was the client built before the model"),
    ("triocept_model('one'); greet(); greet()", "call 2 came, but the script has 1 reply"),
    ("triocept_model(handler=lambda exchange: None); greet()", "call `await exchange.respond(…)`, for example"),
    ("triocept_model(); import contextlib\n    with contextlib.suppress(OSError): ask('hi', timeout=2)",
     "these calls were not answered:"),
], ids=["left over", "no call", "one too many", "no outcome", "not answered"])  # fmt: skip
def test_what_nobody_raised_fails_the_test_all_the_same(run: Run, test: str, words: str) -> None:
    result = run(f"""
def test_it(triocept_model):
    {test}

def test_next(triocept_model):
    triocept_model("hello")
    assert ask("hi") == "hello"
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["> * def test_it*", f"E *{words}*"])
    result.stdout.no_fnmatch_line("*entries are hidden*")


@pytest.mark.parametrize(("test", "words"), [
    ("os.environ['OPENAI_API_KEY'] = 'wrong'", "POST */chat/completions: 401 this API key is not valid*"),
    ("os.environ['OPENAI_BASE_URL'] += '/v1'", "POST /v1/v1/chat/completions: 404 *this client adds /v1*"),
    ("application.BODY = []", "POST */chat/completions: 400 *"),
])  # fmt: skip
def test_calls_that_were_refused_are_no_calls_that_never_came(run: Run, test: str, words: str) -> None:
    result = run(f"""
import application
def test_it(triocept_model):
    triocept_model("one")
    {test}
    assert greet() == "one"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *no call was accepted; the endpoint refused 1 request: {words}"])
    result.stdout.no_fnmatch_line("*was the client built before*")


@pytest.mark.parametrize(("test", "words"), [
    (
        "triocept_model('one'); triocept_model('two'); os.environ['OPENAI_API_KEY'] = 'wrong'; "
        "os.environ['OPENAI_BASE_URL'] = triocept_model.endpoint.url + '/v1'",
        "POST /v1/chat/completions: 401 this API key is not valid for any rollout of this endpoint*",
    ),
    ("triocept_model('one'); os.environ.update(EARLIER)",
     "POST /rollout/*/v1/chat/completions: 401 this API key is not valid for rollout *"),
], ids=["no rollout in the path", "the model of an earlier test"])  # fmt: skip
def test_calls_with_the_key_of_no_model_are_named_with_the_reason(run: Run, test: str, words: str) -> None:
    result = run(f"""
EARLIER = {{}}

def test_earlier(triocept_model):
    triocept_model("one")
    EARLIER.update((name, os.environ[name]) for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"))
    greet()

def test_it(triocept_model):
    {test}
    greet()
    greet()
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E *no call came with the key of this model: was the client built before the model, *Some requests had a "
            f"key of no open model: the endpoint refused 2 requests: {words} (2 times)):"
        ]
    )


def test_more_refused_calls_than_are_kept_are_counted(run: Run) -> None:
    result = run("""
def test_it(triocept_model):
    model = triocept_model("one")
    os.environ["OPENAI_API_KEY"] = "wrong"
    for _ in range(7):
        greet()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *the endpoint refused 7 requests, the newest 5: POST * (5 times)):*"])


def test_a_blocker_of_the_network_is_the_reason_that_no_call_came(run: Run) -> None:
    result = run("""
import socket
def blocked(self, address):
    raise RuntimeError(f"Network is disabled for host {address[0]!r}")

def test_it(triocept_model, monkeypatch):
    triocept_model("one")
    monkeypatch.setattr(socket.socket, "connect", blocked)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *blocks connections to the endpoint (RuntimeError: Network is disabled*--allowed-hosts=127.0.0.1*"
        ]
    )


def test_a_blocker_of_all_sockets_is_an_error_that_says_how_to_allow_the_endpoint(run: Run) -> None:
    result = run("""
import socket
class SocketBlockedError(RuntimeError):
    pass

def blocked(*args, **kwargs):
    raise SocketBlockedError("A test tried to use socket.getaddrinfo.")

@pytest.fixture(scope="session", autouse=True)
def disable_socket():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", blocked)
        yield

def test_it(triocept_model):
    triocept_model("one")
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*blocks the sockets of triocept_endpoint*--allow-hosts=127.0.0.1"])
    result.stdout.no_fnmatch_line("*open_listener*")


def test_a_call_that_waits_for_the_very_thread_it_is_made_in_does_so_for_half_a_minute(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept._rollout.calls.FORGOTTEN", 0.05)
    monkeypatch.setattr("triocept._rollout.calls.GIVEN_UP", 0.1)
    result = run("""
def test_it(triocept_model):
    triocept_model()
    assert greet() == "sorry"
    assert greet() == "sorry"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *Unanswered: no task took this call within 30 s: give the model replies*"]
    )


def test_an_async_handler_that_blocks_is_named_and_the_session_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triocept.testing._loop.PATIENCE", 2)
    monkeypatch.setattr("triocept.testing._loop.ROUND", 0.5)
    result = run("""
import threading, time
ENDS = threading.Event()

def test_it(triocept_model):
    async def answer(exchange):
        ENDS.wait(20)
        await exchange.respond("late")

    triocept_model(handler=answer)
    with pytest.raises(OSError):
        ask("hi", timeout=2)

def test_next():
    ENDS.set()

def test_last(triocept_model):
    triocept_model("hello")
    assert ask("hi") == "hello"
""")
    result.stdout.fnmatch_lines(["E *its loop is blocked in test_it.<locals>.answer (*test_it.py:*"])
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"]) == (1, 2)


def test_what_a_test_has_seen_itself_is_not_told_twice(run: Run) -> None:
    result = run(
        HANDLER
        + """
def test_it(triocept_model):
    model = triocept_model(handler=answer)
    assert greet() == "sorry"
    with pytest.raises(KeyError):
        model.check()
"""
    )
    result.assert_outcomes(passed=1)


def test_an_error_that_is_expected_is_the_handlers_own(run: Run) -> None:
    result = run(
        HANDLER
        + """
@pytest.mark.xfail(raises=KeyError, strict=True)
def test_it(triocept_model):
    triocept_model(handler=answer)
    ask("hi")

@pytest.mark.xfail(raises=ValueError, strict=True)
def test_another(triocept_model):
    triocept_model(handler=answer)
    ask("hi")
"""
    )
    result.assert_outcomes(xfailed=1, failed=1)


def test_what_skips_or_expects_to_fail_stays_but_hides_no_error(run: Run) -> None:
    result = run(
        HANDLER
        + """
def test_skips(triocept_model):
    triocept_model("left")
    pytest.skip("not today")

def test_expects(triocept_model):
    triocept_model(handler=answer)
    greet()
    pytest.xfail("some day")

def test_hides(triocept_model):
    triocept_model(handler=answer)
    greet()
    pytest.skip("not today")
"""
    )
    result.assert_outcomes(skipped=1, xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_hides - KeyError: 'city'"])


def test_a_setup_that_fails_is_one_error_and_shows_its_calls(run: Run) -> None:
    result = run(
        HANDLER
        + """
@pytest.fixture
def application(triocept_model):
    triocept_model(handler=answer)
    return {}[greet()]

def test_it(application):
    assert application
"""
    )
    result.assert_outcomes(errors=1)
    assert ["user: 'hi'" in text for text in sections(result)] == [True]


def test_what_goes_wrong_after_the_test_is_an_error_of_its_teardown(run: Run) -> None:
    result = run(
        HANDLER
        + """
@pytest.fixture
def application(triocept_model):
    triocept_model(handler=answer)
    yield
    greet()

def test_it(application):
    assert True
"""
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["ERROR *::test_it - KeyError: 'city'"])


def test_ctrl_c_ends_the_session_at_once(run: Run, pytester: pytest.Pytester) -> None:
    run("def test_nothing_yet(): assert True")
    pytester.makepyfile(
        test_it="""
def test_it(triocept_model):
    triocept_model("left")
    raise KeyboardInterrupt

def test_next():
    assert True
"""
    )
    result = pytester.runpytest_subprocess(*PLUGIN, *OTHERS, timeout=120)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes()


@pytest.mark.once
def test_ctrl_c_while_the_end_of_a_test_waits_shows_the_error_of_each_handler_once(
    run: Run, pytester: pytest.Pytester
) -> None:
    run("def test_nothing_yet(): assert True")
    pytester.makepyfile(
        test_it="""
import signal, sys, threading
import trio, triocept.testing._ending
from application import ask, greet

triocept.testing._ending.AT_WORK = 20

def waits_in_its_end():
    frame, names = sys._current_frames()[threading.main_thread().ident], []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return "wait" in names and "test_it" not in names

def test_it(triocept_model):
    begun, answered = threading.Event(), threading.Event()

    async def handler(exchange):
        if exchange.request.messages[-1].text == "first":
            await exchange.respond("hello")
            await trio.to_thread.run_sync(answered.wait)
            while not waits_in_its_end():
                await trio.sleep(0.01)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await trio.sleep_forever()
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("city")

    triocept_model(handler=handler)
    threading.Thread(target=greet, args=("second",), daemon=True).start()
    begun.wait()
    ask("first")
    answered.set()
"""
    )
    result = pytester.runpytest_subprocess(*PLUGIN, *OTHERS, timeout=120)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["!!* KeyboardInterrupt", "triocept: a handler also failed: KeyError('city') *!!"]
    )
    assert (result.stdout.str() + result.stderr.str()).count("city") == 1


def test_the_first_failure_may_be_the_last_test(run: Run) -> None:
    result = run(
        HANDLER
        + """
@pytest.mark.parametrize("number", range(3))
def test_it(triocept_model, number):
    triocept_model(handler=answer)
    greet()
""",
        "-x",
    )
    result.assert_outcomes(failed=1)


def test_a_report_shows_the_calls_of_a_test_that_failed_and_of_no_other(run: Run) -> None:
    result = run(
        """
from triocept import ToolCall

def test_fails(triocept_model):
    model = triocept_model(ToolCall.of("search", q="x"), "found\\x1b[31m")
    ask("of one that fails")
    ask("again")
    assert len(model.calls) == 3

def test_passes(triocept_model):
    triocept_model("hello")
    assert ask("of one that passes") == "hello"
""",
        "-rA",
    )
    (text,) = sections(result)
    lines = [line.strip() for line in text.splitlines()]
    assert lines == [
        "2 calls",
        "0  openai_chat, gpt-5",
        "user: 'of one that fails'",
        '→ search({"q":"x"})  (tool_use)',
        "1  openai_chat, gpt-5",
        "user: 'again'",
        "→ 'found\\x1b[31m'  (end)",
    ]


def test_of_several_models_a_report_says_whose_calls_they_are(run: Run) -> None:
    result = run("""
def test_it(triocept_model):
    triocept_model("one")
    ask("a")
    triocept_model("two")
    assert ask("b") == "three"
""")
    (text,) = sections(result)
    assert [line for line in text.splitlines() if line.startswith("model")] == [
        "model 0: 1 call",
        "model 1: 1 call",
    ]


def test_arguments_that_are_refused_are_not_said_to_be_no_call_of_the_fixture(run: Run) -> None:
    result = run("""
def test_it(triocept_model):
    triocept_model({"choices": []})
""")
    result.assert_outcomes(failed=1)
    assert sections(result) == []


def test_a_mistake_in_a_call_of_ours_is_told_without_a_guess_at_the_client(run: Run) -> None:
    result = run("""
def test_it(triocept_model):
    triocept_model("one").client("openai")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ValueError: *'openai'*"])
    result.stdout.no_fnmatch_line("*no call came at all*")


def test_a_tool_that_the_request_does_not_offer_is_a_warning_and_not_logged_too(run: Run) -> None:
    test = """
from triocept import ToolCall

def test_it(triocept_model):
    triocept_model(ToolCall("serach", "{}"))
    greet()
"""
    result = run(test, "-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*test_it.py:*: ScriptWarning: rollout *calls 'serach', which*the request offers no tools"]
    )
    result = run(test, "-W", "error::triocept.handlers.ScriptWarning")
    result.assert_outcomes(failed=1)
    assert "WARNING  triocept.rollout" not in result.stdout.str()


def test_requests_that_take_no_reply_are_named(run: Run) -> None:
    result = run("""
import urllib.request

def test_it(triocept_model):
    triocept_model("hello")
    head = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/models", headers=head)
    urllib.request.urlopen(request, timeout=20).close()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *1 of 1 reply was not used (no model call came, only GET /models, which takes no reply):*"]
    )
