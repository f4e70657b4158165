"""An endpoint in a thread of its own, and what a program that blocks does with its rollouts."""

import asyncio
import os
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import trio

from tests.testing.applications import asked, sync_client
from triocept import Exchange, Refusal, RolloutClosed, ScriptedModel, open_upstream, serve_endpoint
from triocept.testing import SyncEndpoint, SyncExchange, SyncRollout, fake_model, serve

AGENT = [
    sys.executable,
    "-c",
    "import openai; print(openai.OpenAI().chat.completions.create("
    "model='m', messages=[{'role': 'user', 'content': 'hi'}]).choices[0].message.content)",
]


def asks(model: SyncRollout, text: str = "hi") -> str | None:
    client = model.client("openai_chat", max_retries=0, timeout=20)
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content


async def asks_async(model: SyncRollout, text: str = "hi") -> str | None:
    async with model.async_client("openai_chat", max_retries=0, timeout=20) as client:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content


def echo(exchange: SyncExchange) -> None:
    exchange.respond(exchange.request.messages[-1].text)


# Handlers


def test_an_async_handler_runs_in_the_thread_of_the_endpoint() -> None:
    async def handler(exchange: Exchange) -> None:
        await trio.lowlevel.checkpoint()
        await exchange.respond(threading.current_thread().name)

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout:
        assert asks(rollout) == "triocept-endpoint"


def test_plain_functions_block_nobody_else() -> None:
    both = threading.Barrier(3)

    def handler(exchange: SyncExchange) -> None:
        both.wait(20)
        echo(exchange)

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout, ThreadPoolExecutor() as pool:
        assert sorted(map(str, pool.map(lambda text: asks(rollout, text), "abc"))) == ["a", "b", "c"]


def test_a_plain_function_may_refuse_by_raising() -> None:
    def handler(exchange: SyncExchange) -> None:
        raise Refusal(404, "no such model")

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout:
        with pytest.raises(openai.NotFoundError, match="no such model"):
            asks(rollout)


@pytest.mark.parametrize(
    ("handler", "text"),
    [(5, "cannot be called"), (lambda: None, "does not take one argument"), (SyncExchange, "is a class")],
)
def test_what_is_no_handler_is_an_error_at_once(handler: Any, text: str) -> None:
    with serve() as endpoint, pytest.raises(TypeError, match=text), endpoint.open_rollout(handler):
        pytest.fail("it opened")


def test_a_plain_function_that_gives_something_to_await_is_told_to_be_async() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond("never")

    with serve() as endpoint, pytest.raises(TypeError, match=r"returned an awaitable: .* must be `async def"):
        with endpoint.open_rollout(lambda exchange: answer(exchange)) as rollout:
            with pytest.raises(openai.InternalServerError):
                asks(rollout)


def test_a_plain_function_that_returns_its_answer_is_told_how_one_is_given() -> None:
    with serve() as endpoint, pytest.raises(TypeError, match=r"returned 'hello', .* `exchange.respond"):
        with endpoint.open_rollout(lambda exchange: "hello") as rollout:
            with pytest.raises(openai.InternalServerError):
                asks(rollout)


def test_a_handler_that_is_to_be_entered_is_entered() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[ScriptedModel]:
        steps.append("in")
        yield ScriptedModel(["hello"])
        steps.append("out")

    with serve() as endpoint:
        with endpoint.open_rollout(opened()) as rollout:
            assert asks(rollout) == "hello"
        assert steps == ["in", "out"]


def test_a_call_is_forwarded_to_an_upstream_that_is_open_in_the_endpoint() -> None:
    with serve() as endpoint, fake_model("from afar", environ=False) as afar:
        config = afar.config("openai_chat")
        upstream = open_upstream(config.base_url, dialect="openai_chat", api_key=config.api_key)
        with endpoint.enter(upstream) as entered:
            with endpoint.open_rollout(lambda exchange: exchange.forward(entered)) as rollout:
                assert asks(rollout) == "from afar"


def test_a_call_is_forwarded_to_a_plain_function() -> None:
    with serve() as endpoint, endpoint.open_rollout(lambda exchange: exchange.forward(echo)) as rollout:
        assert asks(rollout, "back") == "back"


# What goes wrong


def test_several_errors_are_a_group() -> None:
    both = threading.Barrier(2)

    def handler(exchange: SyncExchange) -> None:
        both.wait(20)
        raise LookupError(exchange.request.messages[-1].text)

    with pytest.raises(ExceptionGroup) as group:
        with serve() as endpoint, endpoint.open_rollout(handler) as rollout, ThreadPoolExecutor() as pool:
            for failed in [pool.submit(asks, rollout, text) for text in "ab"]:
                assert isinstance(failed.exception(), openai.InternalServerError)
    assert sorted(str(error) for error in group.value.exceptions) == ["a", "b"]


def test_what_ends_a_test_is_not_hidden_by_a_handler_that_failed() -> None:
    def handler(exchange: SyncExchange) -> None:
        raise KeyError("boom")

    with pytest.raises(pytest.skip.Exception, match="not now") as skipped, fake_model(handler=handler):
        with pytest.raises(openai.InternalServerError):
            asked()
        pytest.skip("not now")
    assert skipped.value.__notes__ == ["triocept: a handler also failed: KeyError('boom')"]


def test_what_check_has_raised_is_not_raised_again() -> None:
    def handler(exchange: SyncExchange) -> None:
        raise KeyError("boom")

    with fake_model(handler=handler) as model:
        with pytest.raises(openai.InternalServerError):
            asked()
        with pytest.raises(KeyError):
            model.check()
        model.check()
    assert len(model.faults) == 1


def test_a_call_that_nobody_has_answered_is_an_error() -> None:
    with pytest.raises(AssertionError, match=r"these calls were not answered:\n.*\n.*who is there"):
        with fake_model(), sync_client() as client, pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "who is there"}], timeout=2
            )


def test_replies_that_are_left_are_a_note_of_a_body_that_failed() -> None:
    with pytest.raises(ZeroDivisionError) as failed, fake_model("left"):
        _ = 1 / 0
    assert failed.value.__notes__[0].startswith("triocept: 1 of 1 reply was not used (no call came")


def test_replies_and_a_handler_are_too_much() -> None:
    with pytest.raises(ValueError, match="not both"), fake_model("hello", handler=echo):
        pytest.fail("it opened")


def test_a_keyword_with_a_slip_in_it_is_told_what_was_meant() -> None:
    with pytest.raises(TypeError, match=r"did you mean host"), serve(hots="127.0.0.1"):  # type: ignore[call-arg]
        pytest.fail("it opened")


def test_a_port_that_is_taken_is_the_error_it_always_is() -> None:
    with serve() as endpoint, pytest.raises(OSError, match="cannot listen on"), serve(port=endpoint.port):
        pytest.fail("it opened")


# Calls in the body's own hands


def test_a_loop_ends_when_the_rollout_is_stopped() -> None:
    with fake_model() as model:
        application = threading.Thread(target=lambda: [asked(text) for text in "ab"] and model.stop("done"))
        application.start()
        texts = []
        for exchange in model:
            texts.append(exchange.request.messages[-1].text)
            echo(exchange)
        application.join(20)
    assert texts == ["a", "b"]
    assert model.stopped == "done"


def test_a_wait_that_is_over_loses_no_call() -> None:
    with fake_model() as model:
        with pytest.raises(
            TimeoutError, match=r"^no call came within 0.01 s. The reason may be: no call came at all"
        ):
            model.next(timeout=0.01)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(asked, "late")
            echo(model.next(timeout=20))
            assert answer.result(20) == "late"


def test_a_wait_that_asyncio_cancels_loses_no_call() -> None:
    async def main(model: SyncRollout) -> None:
        for number in range(30):
            waiting = asyncio.create_task(model.anext())
            asking = asyncio.create_task(asks_async(model, str(number)))
            while not waiting.done() and len(model.calls) <= number:
                await asyncio.sleep(0)
            waiting.cancel()
            try:
                exchange = await waiting
            except asyncio.CancelledError:
                exchange = await model.anext(timeout=20)
            echo(exchange)
            assert await asking == str(number)

    with fake_model() as model:
        asyncio.run(main(model))
    assert [turn.outcome for turn in model.trace] == ["answered"] * 30


def test_an_asyncio_task_iterates() -> None:
    async def main() -> list[str]:
        with fake_model() as model:
            texts = []
            asking = asyncio.create_task(asks_async(model, "hi"))
            async for exchange in model:
                texts.append(exchange.request.messages[-1].text)
                await asyncio.to_thread(echo, exchange)
                await asking
                await asyncio.to_thread(model.stop, "done")
            return texts

    assert asyncio.run(main()) == ["hi"]


def test_a_blocking_wait_where_asyncio_runs_says_so() -> None:
    async def main() -> None:
        with fake_model() as model, pytest.raises(TimeoutError, match=r"`await model.anext\(\)`"):
            model.next(timeout=0.01)

    asyncio.run(main())


def test_one_that_has_a_handler_has_no_next() -> None:
    with fake_model("hello", must_be_used=False) as model:
        with pytest.raises(RuntimeError, match="has a handler, which receives every exchange"):
            model.next()


# Its own thread, other threads, and the time after it


def test_in_the_endpoints_own_thread_a_verb_that_blocks_is_told_where_it_is() -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(RuntimeError, match="the endpoint's own thread, which would wait for itself"):
            _ = rollout.trace
        with pytest.raises(RuntimeError, match="a blocking client in trio's own thread"):
            await trio.lowlevel.checkpoint()
            client.models.list()
        await exchange.respond("told")

    with serve() as endpoint, endpoint.open_rollout(handler) as rollout:
        client = rollout.client("openai_chat")
        assert asks(rollout) == "told"


def test_it_is_used_from_many_threads() -> None:
    with serve() as endpoint:

        def one(number: int) -> int:
            with endpoint.open_rollout(ScriptedModel([str(number)])) as rollout:
                assert asks(rollout) == str(number)
            return len(rollout.trace)

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(one, range(64))) == 64


def test_behind_its_block_it_is_closed_and_says_so() -> None:
    with serve() as endpoint:
        with endpoint.open_rollout() as rollout:
            pass
        with pytest.raises(RolloutClosed, match="no further call can arrive"):
            rollout.next()
    for use in (rollout.next, rollout.environ, lambda: rollout.base_url("openai_chat")):
        with pytest.raises(RuntimeError, match="the endpoint has ended"):
            use()
    with pytest.raises(RuntimeError, match="the endpoint has ended"), endpoint.open_rollout():
        pytest.fail("it opened")
    assert len(rollout.trace) == len(rollout.calls) == 0


def test_a_trace_that_was_taken_does_not_grow() -> None:
    with fake_model("a", "b") as model:
        asked()
        before = model.trace
        asked()
        assert (len(before), len(model.trace)) == (1, 2)
    assert model.trace.sealed
    assert not before.sealed


def test_a_thread_is_left_behind_by_none() -> None:
    for _ in range(3):
        with fake_model("hello"):
            asked()
    assert [thread for thread in threading.enumerate() if thread.name == "triocept-endpoint"] == []


# The environment, clients, agents


def test_no_sdk_warns_of_two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    anthropic = pytest.importorskip("anthropic")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "mine")
    with fake_model() as model, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        anthropic.Anthropic().close()
        model.client("anthropic_messages")
    assert [str(one.message) for one in told if "ANTHROPIC" in str(one.message)] == []
    assert os.environ["ANTHROPIC_AUTH_TOKEN"] == "mine"


def test_two_models_at_once_are_called_by_clients_of_their_own() -> None:
    with fake_model("from the first") as first, fake_model("from the second") as second:
        assert asks(first) == "from the first"
        assert asked() == "from the second"
    assert (len(first.calls), len(second.calls)) == (1, 1)


def test_the_inner_environment_may_end_after_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    outer, inner = fake_model(), fake_model()
    outer.__enter__()
    model = inner.__enter__()
    outer.__exit__(None, None, None)
    assert os.environ["OPENAI_API_KEY"] == model.api_key
    inner.__exit__(None, None, None)
    assert os.environ["OPENAI_API_KEY"] == "mine"


def test_an_agent_runs_while_its_caller_waits() -> None:
    with serve() as endpoint, endpoint.open_rollout(echo) as rollout:
        result = rollout.run_agent(AGENT)
    assert (result.returncode, result.stdout.strip()) == (
        0,
        b"hi" if isinstance(result.stdout, bytes) else "hi",
    )


def test_in_sync_code_and_under_asyncio_an_endpoint_says_where_the_door_is() -> None:
    opened: Any = serve_endpoint()
    with pytest.raises(TypeError, match=r"for code that is not async, use `triocept.testing`"), opened:
        pytest.fail("it opened")

    async def main() -> None:
        async with serve_endpoint():
            pytest.fail("it opened")

    with pytest.raises(RuntimeError, match=r"`with triocept.testing.serve\(\) as endpoint`"):
        asyncio.run(main())


def test_an_endpoint_shows_itself() -> None:
    with serve() as endpoint:
        assert isinstance(endpoint, SyncEndpoint)
        assert (
            endpoint.url == f"http://127.0.0.1:{endpoint.port}" == f"http://{endpoint.host}:{endpoint.port}"
        )
        assert repr(endpoint) == f"<Endpoint {endpoint.url}: 0 rollouts>"


def test_where_a_rollout_is_found_is_said_without_a_wait_for_the_loop_and_not_behind_its_end() -> None:
    goes_on = threading.Event()

    async def block() -> None:
        goes_on.wait(20)

    with serve() as endpoint, endpoint.open_rollout() as rollout:
        with ThreadPoolExecutor() as pool:
            blocked = pool.submit(endpoint._loop.call, block)
            try:
                assert rollout.base_url("openai_chat").startswith(endpoint.url)
                assert rollout.config("openai_chat").api_key == rollout.api_key
                assert rollout.environ()["OPENAI_API_KEY"] == rollout.api_key
            finally:
                goes_on.set()
            blocked.result(20)
        with pytest.raises(ValueError, match="unknown dialect"):
            rollout.base_url("openai")
    with pytest.raises(RuntimeError, match="the endpoint has ended"):
        rollout.environ()


def test_what_is_asked_of_the_loop_may_fail_and_harms_nobody() -> None:
    def fail() -> None:
        raise KeyError("mine")

    with serve() as endpoint, endpoint.open_rollout(echo) as rollout:
        with pytest.raises(KeyError, match="mine"):
            endpoint._loop.ask(fail)
        assert asks(rollout) == "hi"
