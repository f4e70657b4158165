"""200 tests with triocept, whose endpoint is the session's; each has a rollout of its own."""

import pytest
from asking import ask


@pytest.mark.parametrize("number", range(200))
def test_alone(number, triocept_model):
    assert triocept_model().id


@pytest.mark.parametrize("number", range(200))
def test_call(number, triocept_model):
    model = triocept_model("hi")
    assert ask(model.base_url("openai_chat"), model.api_key) == "hi"
