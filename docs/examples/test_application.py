"""An LLM application, and tests that play its model (pytest, `trio_mode = true`)."""

import openai
import pytest
import trio
import triocept
from triocept import Refusal, ScriptedModel

TEAMS = {"developers", "accounting"}


# The application


async def triage(client: openai.AsyncOpenAI, ticket: str) -> str:
    """The team that a ticket goes to; people decide where the model cannot."""
    messages = [
        {"role": "system", "content": "Name one team."},
        {"role": "user", "content": ticket},
    ]
    try:
        for _ in range(2):
            completion = await client.chat.completions.create(
                model="a-model", messages=messages
            )
            team = completion.choices[0].message.content
            if team in TEAMS:
                return team
            messages.append({"role": "user", "content": f"Not a team: {team}"})
    except openai.APIError:
        pass
    return "people"


# Its tests


@pytest.fixture
async def endpoint():
    async with triocept.serve_endpoint() as endpoint:
        yield endpoint


async def ask(
    endpoint: triocept.Endpoint, model: triocept.Handler, ticket: str
) -> tuple[str, triocept.Trace]:
    with trio.fail_after(10):
        async with endpoint.open_rollout(model) as rollout:
            async with rollout.client("openai_chat", max_retries=1) as client:
                return await triage(client, ticket), rollout.trace


async def test_a_crash_goes_to_the_developers(endpoint):
    team, trace = await ask(endpoint, ScriptedModel(["developers"]), "It crashes.")
    assert team == "developers"
    assert trace[0].request.system == "Name one team."
    assert trace[0].request.user_text == "It crashes."


async def test_a_wrong_name_is_asked_about_again(endpoint):
    team, trace = await ask(
        endpoint, ScriptedModel(["the cook", "accounting"]), "Where is my money?"
    )
    assert team == "accounting"
    assert trace[1].request.user_text == "Not a team: the cook"


async def test_a_model_that_is_down_is_not_the_end(endpoint):
    down = Refusal(503, "overloaded", retry_after=0.1)
    team, trace = await ask(endpoint, ScriptedModel([down, down]), "Help!")
    assert team == "people"
    assert [turn.outcome for turn in trace] == ["refused", "refused"]
    assert [turn.attempt for turn in trace] == [1, 2]


async def test_a_model_that_breaks_off_is_not_the_end(endpoint):
    async def break_off(exchange: triocept.Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("develop")
            raise Refusal(500, "lost the thread", should_retry=False)

    team, _ = await ask(endpoint, break_off, "Help!")
    assert team == "people"
