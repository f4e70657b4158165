import pytest
from triage import translate, triage

from triocept.testing import fake_model


@pytest.fixture(scope="session", autouse=True)
def real_model():
    """Who is recorded: a provider that is not far away."""
    patch = pytest.MonkeyPatch()
    with fake_model(handler=lambda exchange: exchange.respond("developers"), environ=False) as model:
        patch.setenv("TRIOCEPT_UPSTREAM", model.base_url("openai_chat"))
        patch.setenv("OPENAI_API_KEY", model.api_key)
        yield
    patch.undo()


@pytest.mark.triocept(cassette=True)
def test_it_is_recorded_or_answered_from_its_file():
    assert triage("It crashes.") == "developers"


@pytest.mark.triocept(cassette=True)
def test_another_dialect_is_answered_from_such_a_file_too(triocept_model):
    assert translate("Good day") == "developers"
    assert len(triocept_model.cassette.calls) == 1
