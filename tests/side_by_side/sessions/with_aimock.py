"""200 tests with aimock-pytest, on one server for the session."""

import pytest
from asking import ask


@pytest.fixture
def model(aimock_session):
    return aimock_session.reset()


@pytest.mark.parametrize("number", range(200))
def test_alone(number, model):
    assert model.base_url


@pytest.mark.parametrize("number", range(200))
def test_call(number, model):
    model.on_message("hello", {"content": "hi"})
    assert ask(f"{model.base_url}/v1") == "hi"
