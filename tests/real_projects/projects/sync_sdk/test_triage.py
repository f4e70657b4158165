import os

import anthropic
import openai
import pytest
from triage import translate, triage

import triocept.testing
from triocept import Refusal, Response, ToolCall

BEFORE = dict(os.environ)


def test_a_crash_goes_to_the_developers(triocept_model):
    model = triocept_model("developers")
    assert triage("It crashes.") == "developers"
    assert model.calls[0].system == "Name one team."


def test_two_sdks_are_answered_by_one_model(triocept_model):
    model = triocept_model("developers", "Guten Tag")
    assert triage("It crashes.") == "developers"
    assert translate("Good day") == "Guten Tag"
    assert [turn.dialect for turn in model.trace] == ["openai_chat", "anthropic_messages"]


def test_a_model_that_is_busy_is_asked_again(triocept_model):
    model = triocept_model(Refusal(429, "slow down", retry_after=0.01), "developers")
    assert triage("It crashes.") == "developers"
    assert [turn.outcome for turn in model.trace] == ["refused", "answered"]


def test_a_tool_is_called(triocept_model):
    model = triocept_model(ToolCall.of("search", q="x"))
    client = model.client("openai_chat")
    message = (
        client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "x"}],
            tools=[{"type": "function", "function": {"name": "search"}}],
        )
        .choices[0]
        .message
    )
    assert message.tool_calls[0].function.name == "search"


def test_a_plain_function_answers(triocept_model):
    def answer(exchange):
        exchange.respond(f"the {exchange.request.last.text[3:-1]} team")

    triocept_model(handler=answer)
    assert triage("It crashes.") == "the crashes team"


def test_an_async_function_answers(triocept_model):
    async def answer(exchange):
        async with exchange.open_stream() as stream:
            await stream.send("Guten ")
            await stream.send("Tag")

    triocept_model(handler=answer)
    assert translate("Good day") == "Guten Tag"


@pytest.mark.parametrize("team", ["developers", "accounting"])
def test_a_test_with_parameters_has_a_model_each(triocept_model, team):
    model = triocept_model(team)
    assert triage("?") == team
    assert len(model.trace) == 1


@pytest.fixture
def busy(triocept_model):
    return triocept_model(Refusal(503, "busy", should_retry=False))


def test_a_fixture_of_the_projects_own_opens_the_model(busy):
    assert triage("?") == "people"
    assert busy.calls[0].last.text == "?"


@pytest.mark.triocept(model="gpt-5", environ=False)
def test_a_mark_has_options(triocept_model):
    model = triocept_model(Response.of("x"))
    assert model.model == "gpt-5"
    assert os.environ.get("OPENAI_BASE_URL") == BEFORE.get("OPENAI_BASE_URL")
    assert model.client("openai_chat").chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}]
    )


def test_triocept_is_loaded_as_it_was_installed(triocept_model):
    assert type(triocept.testing.__loader__).__name__ == "SourceFileLoader"


def test_the_environment_is_as_it_was(request):
    assert dict(os.environ, PYTEST_CURRENT_TEST="") == dict(BEFORE, PYTEST_CURRENT_TEST="")


@pytest.fixture(scope="module")
def long_lived(triocept_endpoint):
    async def answer(exchange):
        await exchange.respond("there")

    with triocept_endpoint.open_rollout(answer) as model:
        yield model


@pytest.mark.parametrize("number", range(2))
def test_a_model_of_a_whole_module_lives_in_the_endpoint_of_the_session(long_lived, number):
    with long_lived.client("openai_chat") as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    assert len(long_lived.trace) == number + 1


def test_the_sdks_own_error_for_a_wrong_key_is_seen(triocept_model):
    model = triocept_model()
    with openai.OpenAI(base_url=model.base_url("openai_chat"), api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    with anthropic.Anthropic(base_url=model.base_url("anthropic_messages"), api_key="wrong") as client:
        with pytest.raises(anthropic.AuthenticationError):
            client.models.list()
