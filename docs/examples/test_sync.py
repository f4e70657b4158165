from openai import OpenAI
from triocept.testing import be_the_model


def greet() -> str:  # the application, which knows nothing of triocept
    client = OpenAI()
    answer = client.chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": "say hello"}]
    )
    client.close()
    return answer.choices[0].message.content or ""


def test_it_greets() -> None:
    with be_the_model("hello") as model:
        assert greet() == "hello"
    assert model.calls[0].messages[-1].text == "say hello"
