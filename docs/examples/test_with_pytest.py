import openai
from triocept import Refusal
from triocept.testing import ModelFactory


def triage(ticket: str) -> str:  # the application, which knows nothing of triocept
    with openai.OpenAI(max_retries=1) as client:
        try:
            answer = client.chat.completions.create(
                model="gpt-5",
                messages=[
                    {"role": "system", "content": "Name one team."},
                    {"role": "user", "content": ticket},
                ],
            )
        except openai.APIError:
            return "people"
    return answer.choices[0].message.content or "people"


def test_a_crash_goes_to_the_developers(triocept_model: ModelFactory) -> None:
    model = triocept_model("developers")
    assert triage("It crashes.") == "developers"
    assert model.calls[0].system == "Name one team."


def test_a_model_that_is_down_is_not_the_end(triocept_model: ModelFactory) -> None:
    down = Refusal(503, "overloaded", retry_after=0.01)
    model = triocept_model(down, down)
    assert triage("It crashes.") == "people"
    assert [turn.attempt for turn in model.trace] == [1, 2]
