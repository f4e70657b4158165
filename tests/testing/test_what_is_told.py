"""What a program is told of a handler that fails late, blocks, or takes trio for asyncio; of a model that no call
reached; and of a mistake in its own call."""

import asyncio
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import trio

from tests.programs import run_python
from tests.testing.applications import asked, sync_client
from triocept import Exchange
from triocept._util import loop_watch
from triocept.testing import SyncExchange, SyncRollout, fake_model, serve
from triocept.testing._watch import Watch


@contextmanager
def in_an_endpoint(**options: Any) -> Iterator[SyncRollout]:
    with serve() as endpoint, endpoint.open_rollout(**options) as rollout:
        yield rollout


DOORS = pytest.mark.parametrize("door", [fake_model, in_an_endpoint])
Door = Callable[..., AbstractContextManager[SyncRollout]]


def asks(model: SyncRollout, **options: Any) -> str | None:
    client = model.client("openai_chat", max_retries=0, **options)
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    return answer.choices[0].message.content


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def is_refused(model: SyncRollout) -> None:
    with pytest.raises(openai.APIError):
        asks(model)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time until a handler that has answered ends."""
    monkeypatch.setattr("triocept.testing._ending.AT_WORK", 60)


# A handler that fails when it has answered


@DOORS
def test_what_an_async_handler_raises_behind_its_answer_is_raised_at_the_end(door: Door) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond("hello")
        await trio.sleep(0.1)  # the body has ended
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"), door(handler=handler) as model:
        assert asks(model) == "hello"


@DOORS
def test_what_it_raises_behind_a_stream_is_raised_too(door: Door) -> None:
    async def handler(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("hello")
        await trio.sleep(0.1)
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"), door(handler=handler) as model:
        assert asks(model) == "hello"


@DOORS
def test_what_a_plain_function_raises_behind_its_answer_is_raised_at_the_end(door: Door) -> None:
    def handler(exchange: SyncExchange) -> None:
        exchange.respond("hello")
        time.sleep(0.1)
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"), door(handler=handler) as model:
        assert asks(model) == "hello"


def test_it_is_raised_in_the_context_of_what_the_body_raises() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond("hello")
        await trio.sleep(0.1)
        raise KeyError("late")

    with pytest.raises(KeyError, match="late") as failed, fake_model(handler=handler) as model:
        assert asks(model) == "goodbye"
    assert isinstance(failed.value.__context__, AssertionError)


def test_check_waits_for_it_too() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond("hello")
        await trio.sleep(0.1)
        raise KeyError("late")

    with fake_model(handler=handler) as model:
        assert asks(model) == "hello"
        with pytest.raises(KeyError, match="late"):
            model.check()


def test_the_wait_is_bounded_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("triocept.testing._ending.AT_WORK", 0.05)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond("hello")
        await trio.sleep_forever()

    began = time.monotonic()
    with fake_model(handler=handler) as model:
        assert asks(model) == "hello"
    assert time.monotonic() - began < 10
    assert "a handler was still running after the answer" in caplog.text


def test_a_handler_that_has_not_answered_is_not_waited_for() -> None:
    async def handler(exchange: Exchange) -> None:
        await trio.sleep_forever()

    began = time.monotonic()
    with fake_model(handler=handler) as model:
        application = threading.Thread(target=is_refused, args=(model,))
        application.start()
        wait_until(lambda: model.calls)
    application.join(60)
    assert time.monotonic() - began < 20


def test_a_ctrl_c_waits_for_no_handler() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond("hello")
        await trio.sleep_forever()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), fake_model(handler=handler) as model:
        asks(model)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 20


def test_a_thread_whose_agent_has_gone_fails_its_rollout_while_that_is_open() -> None:
    begun, gone = threading.Event(), threading.Event()

    def handler(exchange: SyncExchange) -> None:
        begun.set()
        gone.wait(60)
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"), fake_model(handler=handler) as model:
        while not begun.is_set():  # an agent that disconnects before its handler has begun is no fault
            with pytest.raises(openai.APITimeoutError):
                asks(model, timeout=0.2)
        wait_until(lambda: model.trace)
        gone.set()
        wait_until(lambda: model.faults)


def test_an_error_raised_at_the_moment_of_the_abandonment_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def raise_before_the_cancellation(call: Callable[[], None], **_: object) -> None:
        with suppress(KeyError):  # trio drops the result of a thread whose call it cancels
            call()
        await trio.sleep_forever()

    def handler(exchange: SyncExchange) -> None:
        raise KeyError("late")

    monkeypatch.setattr(trio.to_thread, "run_sync", raise_before_the_cancellation)
    with pytest.raises(KeyError, match="late"), fake_model(handler=handler) as model:
        with pytest.raises(openai.APITimeoutError):
            asks(model, timeout=2)
        wait_until(lambda: model.faults)
        assert len(model.faults) == 1


@contextmanager
def of_the_endpoint(**options: Any) -> Iterator[SyncRollout]:
    with serve(**options) as endpoint, endpoint.open_rollout() as rollout:
        yield rollout


@pytest.mark.parametrize("door", [in_an_endpoint, of_the_endpoint])
@pytest.mark.parametrize("name", ["embed", "moderate"])
def test_the_error_of_a_function_whose_agent_has_gone_is_raised_while_the_rollout_is_open(
    name: str, door: Door
) -> None:
    with pytest.raises(KeyError, match="late") as failed, door(**{name: fails_late(gone := Gone())}) as model:
        leave_service(model, name, gone)
        wait_until(lambda: model.trace.services)  # the call is recorded as abandoned
        gone.agent.set()
        wait_until(lambda: model.faults)
        assert len(model.faults) == 1
    assert not isinstance(failed.value, BaseExceptionGroup)


@pytest.mark.parametrize("name", ["embed", "moderate"])
def test_the_error_of_a_function_is_logged_after_the_end_of_its_rollout(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {name: fails_late(gone := Gone())}
    with serve() as endpoint:
        with endpoint.open_rollout(**options) as model:
            leave_service(model, name, gone)
        gone.agent.set()
        wait_until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    assert model.faults == ()


class Gone:
    def __init__(self) -> None:
        self.begun = threading.Event()
        self.agent = threading.Event()


def fails_late(gone: Gone) -> Callable[[Any], Any]:
    def function(texts: Any) -> Any:
        gone.begun.set()
        gone.agent.wait(30)
        raise KeyError("late")

    return function


def leave_service(model: SyncRollout, name: str, gone: Gone) -> None:
    """Call the service, and disconnect when its function has begun."""
    client = model.client("openai_chat", max_retries=0, timeout=0.3)
    while not gone.begun.is_set():  # an agent that disconnects before its function has begun is no fault
        with pytest.raises(openai.APITimeoutError):
            if name == "embed":
                client.embeddings.create(model="m", input="x")
            else:
                client.moderations.create(input="x")


# Handlers run under trio


@pytest.mark.parametrize("awaits", [
    lambda: asyncio.sleep(1),
    lambda: asyncio.sleep(0),
    lambda: asyncio.to_thread(print),
    lambda: asyncio.wait_for(asyncio.sleep(0), 1),
], ids=["sleep", "sleep 0", "to_thread", "wait_for"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_asyncio_in_an_async_handler_is_told_of_trio(awaits: Callable[[], Any]) -> None:
    async def handler(exchange: Exchange) -> None:
        await awaits()

    with pytest.raises((RuntimeError, TypeError)) as failed, fake_model(handler=handler) as model:
        with pytest.raises(openai.InternalServerError):
            asks(model)
        assert "an async handler runs under trio" in "".join(model.faults[0].__notes__)
    notes = [note for note in failed.value.__notes__ if "an async handler runs under trio" in note]
    assert len(notes) == 1


def test_a_plain_function_may_run_asyncio() -> None:
    def handler(exchange: SyncExchange) -> None:
        asyncio.run(asyncio.sleep(0))
        exchange.respond("hello")

    with fake_model(handler=handler) as model:
        assert asks(model) == "hello"


# Who blocks the endpoint for a while


FOUND = threading.Event()
"""Set when the detector has found what blocks the loop. A busy machine lets it look late."""


def blocks(exchange: Exchange) -> None:
    FOUND.wait(30)


async def blocking(exchange: Exchange) -> None:
    blocks(exchange)
    await exchange.respond("hello")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    FOUND.clear()
    monkeypatch.setattr(Watch, "found", lambda watch, place: FOUND.set())
    monkeypatch.setattr(loop_watch, "LONG", 0.5)
    monkeypatch.setattr(loop_watch, "EVERY", 0.1)


@DOORS
def test_an_async_handler_that_blocks_for_long_is_named_with_its_line(door: Door, impatient: None) -> None:
    with pytest.warns(RuntimeWarning, match=r"^blocks blocked triocept's endpoint for \d\.\d s") as warned:
        with door(handler=blocking) as model:
            assert asks(model) == "hello"
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert warned[0].lineno == blocks.__code__.co_firstlineno + 1


def test_code_that_a_library_generates_is_not_named(impatient: None) -> None:
    """As attrs does for `trio.Task.__init__`: its code has a file name that is none, and globals without a module."""
    made: dict[str, Any] = {"wait": FOUND.wait}
    exec(compile("def made(): wait(30)", "<attrs generated methods trio._core._run.Task>", "exec"), made)

    async def handler(exchange: Exchange) -> None:
        made["made"]()
        await exchange.respond("hello")

    with pytest.warns(RuntimeWarning, match="handler blocked triocept's endpoint"):
        with fake_model(handler=handler) as model:
            assert asks(model) == "hello"


@pytest.mark.parametrize(("looks", "named"), [(8, True), (2, False)], ids=["blocked", "stood still"])
def test_nobody_is_named_where_the_whole_process_stood_still(
    looks: int, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a loaded machine the thread that looks gets no time either: 2 looks in 2 s are no block of 2 s."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    def look_later(seconds: float) -> bool:
        clock.now += 2 / looks
        return clock.now > 2

    posted: list[Callable[[], object]] = []
    watch = Watch(threading.current_thread(), posted.append)
    monkeypatch.setattr("triocept._util.loop_watch.time", clock)
    monkeypatch.setattr(watch, "_ended", SimpleNamespace(wait=look_later))
    watch._look()
    (beat,) = posted
    beat()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        watch.warn()
    assert bool(warned) == named


def test_where_warnings_are_errors_that_is_one(impatient: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="blocks blocked"), fake_model(handler=blocking) as model:
            assert asks(model) == "hello"


def test_nobody_is_named_who_does_not_block(impatient: None) -> None:
    def handler(exchange: SyncExchange) -> None:
        time.sleep(1)
        exchange.respond("hello")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fake_model(handler=handler) as model:
            assert asks(model) == "hello"


def test_the_watch_ends_with_its_endpoint() -> None:
    with fake_model("hello") as model:
        assert "triocept-watch" in {thread.name for thread in threading.enumerate()}
        asks(model)
    assert "triocept-watch" not in {thread.name for thread in threading.enumerate()}


def test_a_field_of_the_sampling_by_its_providers_name_is_told_what_was_meant() -> None:
    with fake_model("hello") as model:
        asks(model)
    sampling: Any = model.calls[0].sampling
    for name in ("max_tokens", "max_completion_tokens", "maxOutputTokens"):
        with pytest.raises(
            AttributeError, match=rf"^Sampling has no field '{name}'; did you mean max_output_tokens\?$"
        ):
            getattr(sampling, name)
    assert not hasattr(sampling, "colour")


# A model that no call reached


def test_of_two_models_the_one_that_the_environment_led_away_from_is_told_where_to() -> None:
    with pytest.raises(AssertionError) as failed, fake_model("a", id="first"), fake_model("b", id="second"):
        assert asked("hi") == "b"
    assert str(failed.value).startswith(
        "1 of 1 reply of rollout first was not used (no call came at all: the environment led to rollout "
        "second, which was opened after rollout first; `model.client(dialect)` returns a client of this model):"
    )


def test_of_two_models_a_call_that_nobody_answered_is_one_of_either() -> None:
    with pytest.raises(AssertionError, match="these calls of rollout second were not answered:"):
        with fake_model("a", id="first") as first, fake_model(id="second"), sync_client() as client:
            assert asks(first) == "a"
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}], timeout=2
                )


def test_one_model_after_the_other_is_not_two() -> None:
    with fake_model("a"):
        asked("hi")
    with pytest.raises(AssertionError, match=r"reply was not used.*was the client built before the model"):
        with fake_model("b"):
            pass


def test_one_without_the_environment_is_told_that() -> None:
    with pytest.raises(
        AssertionError, match=r"does the application run with the variables of `model.environ\(\)`\?"
    ):
        with fake_model("a", environ=False):
            pass


# A mistake in a call


def test_a_keyword_that_nobody_has_is_told_by_the_function_that_was_called() -> None:
    with pytest.raises(
        TypeError,
        match=r"^fake_model\(\) got an unexpected keyword argument 'environs'; did you mean environ\?",
    ):
        with fake_model("a", environs=True):  # type: ignore[call-arg]
            pass
    with serve() as endpoint:
        with pytest.raises(
            TypeError, match=r"^open_rollout\(\) got .* 'must_be_use'; did you mean must_be_used\?"
        ):
            with endpoint.open_rollout(must_be_use=True):  # type: ignore[call-arg]
                pass
    with pytest.raises(TypeError, match=r"^must_be_used must be a bool, not str"):
        with fake_model("a", must_be_used="no"):  # type: ignore[arg-type]
            pass


def test_a_model_that_is_not_entered_says_how_it_is() -> None:
    model: Any = fake_model("a")
    with pytest.raises(
        AttributeError,
        match=r"the context was not entered: write `with fake_model\(…\) as model`; .* 'calls'",
    ):
        _ = model.calls
    with pytest.raises(TypeError, match=r"`with fake_model\(…\) as model`"):
        list(model)
    assert not hasattr(model, "calls")
    endpoint: Any = serve()
    with pytest.raises(AttributeError, match=r"`with serve\(…\) as endpoint`"):
        _ = endpoint.url
    with serve() as running:
        rollout: Any = running.open_rollout()
        with pytest.raises(AttributeError, match=r"`with open_rollout\(…\) as rollout`"):
            _ = rollout.trace

    async def main() -> None:
        async with model:
            pass

    with pytest.raises(
        TypeError, match=r"this context manager is not async: write `with fake_model\(…\) as model`"
    ):
        asyncio.run(main())


def test_it_decorates_as_contexts_do_each_call_anew() -> None:
    @fake_model("a")
    def ask_once() -> str | None:
        return asked("hi")

    assert [ask_once(), ask_once()] == ["a", "a"]


def test_the_sdk_of_a_client_is_imported_in_the_thread_that_asks_for_the_client() -> None:
    """An import of seconds would block the endpoint's loop, and with it every other call."""
    code = (
        "import sys, threading\n"
        "from triocept.testing import fake_model\n"
        "threads = []\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'openai': threads.append(threading.current_thread())\n"
        "sys.meta_path.insert(0, Finder())\n"
        "with fake_model() as model:\n"
        "    model.client('openai_chat')\n"
        "assert threads and {*threads} == {threading.main_thread()}, threads\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
