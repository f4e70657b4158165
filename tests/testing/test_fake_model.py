"""Be the model of a sync program: what it says, what it was asked, and what is raised at the end."""

import os
import threading

import openai
import pytest

from tests.testing.applications import asked, sync_client
from triocept import Response
from triocept.testing import SyncExchange, fake_model


def test_an_application_that_knows_nothing_of_it_is_answered() -> None:
    with fake_model("hello", "again") as model:
        assert asked("one") == "hello"
        assert asked("two") == "again"
    assert [call.messages[-1].text for call in model.calls] == ["one", "two"]
    assert [turn.outcome for turn in model.trace] == ["answered", "answered"]
    assert model.trace.sealed


def test_a_plain_function_answers_in_a_thread_of_its_own() -> None:
    threads = []

    def handler(exchange: SyncExchange) -> None:
        threads.append(threading.current_thread())
        with exchange.open_stream() as stream:
            stream.send("hel")
            stream.send("lo")

    with fake_model(handler=handler):
        assert asked() == "hello"
    assert threads[0] is not threading.main_thread()


def test_what_a_handler_raises_is_raised_at_the_end_and_its_agent_gets_the_same_500_until_then() -> None:
    said = []

    def handler(exchange: SyncExchange) -> None:
        raise KeyError("boom")

    with pytest.raises(KeyError, match="boom") as raised, fake_model(handler=handler) as model:
        for _ in range(2):
            with pytest.raises(openai.InternalServerError) as failed:
                asked()
            said.append(str(failed.value))
        asked()
    assert len(set(said)) == 1
    assert "KeyError" in said[0]
    assert isinstance(raised.value.__context__, openai.InternalServerError)
    assert [turn.outcome for turn in model.trace] == ["failed"] * 3


def test_a_reply_that_is_left_is_an_error() -> None:
    with pytest.raises(AssertionError, match=r"1 of 2 replies was not used \(1 call came\):\n"):
        with fake_model("used", "left"):
            asked()


def test_a_client_that_was_built_before_is_thought_of_where_no_call_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "before")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    with sync_client() as client, pytest.raises(AssertionError, match="was the client built before"):
        with fake_model("left"), pytest.raises(openai.APIConnectionError):
            client.models.list()


def test_a_reply_may_be_left_where_that_is_said() -> None:
    with fake_model("used", "left", must_be_used=False) as model:
        asked()
    assert len(model.calls) == 1


def test_the_environment_is_as_it_was_whatever_the_block_has_made_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "mine")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "mine, too")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    before = dict(os.environ)
    with fake_model() as model:
        assert os.environ["OPENAI_BASE_URL"] == model.base_url("openai_chat")
        assert "ANTHROPIC_AUTH_TOKEN" not in os.environ
        os.environ["OPENAI_BASE_URL"] = "changed"
        os.environ.pop("OPENAI_API_KEY")
    assert dict(os.environ) == before


def test_the_body_may_answer_by_itself() -> None:
    with fake_model() as model:
        answers: list[str | None] = []
        application = threading.Thread(target=lambda: answers.append(asked("who?")))
        application.start()
        exchange = model.next(timeout=60)
        assert exchange.request.messages[-1].text == "who?"
        exchange.respond(Response.of("me"))
        application.join(60)
    assert answers == ["me"]


def test_a_handler_that_takes_no_exchange_is_told_so() -> None:
    with pytest.raises(
        TypeError, match=r"`def handler\(exchange\)`, async or not; .* does not take one argument"
    ):
        with fake_model(handler=lambda: None):  # type: ignore[arg-type, misc]
            pass
