"""Each fails, in its own words; what comes after it does not."""

import openai
import pytest
from triage import translate, triage

CLIENTS: list[openai.OpenAI] = []


def test_an_error_of_the_handler_though_the_application_swallows_the_500(triocept_model):
    """Fails: KeyError: 'city'"""

    def answer(exchange):
        {}["city"]

    triocept_model(handler=answer)
    assert triage("?") == "people"


def test_an_error_of_the_handler_that_the_sdk_reports(triocept_model):
    """Fails: ZeroDivisionError: division by zero"""

    async def answer(exchange):
        1 / 0  # noqa: B018

    triocept_model(handler=answer)
    assert translate("Good day") == ""


def test_an_assert_in_the_handler(triocept_model):
    """Fails: assert '?' == '!'"""

    def answer(exchange):
        assert exchange.request.last.text == "!"

    triocept_model(handler=answer)
    assert triage("?") == "people"


def test_a_reply_that_is_left_over(triocept_model):
    """Fails: was not used"""
    triocept_model("developers", "nobody asks for this")
    assert triage("?") == "developers"


def test_a_call_too_many(triocept_model):
    """Fails: call 2 came, but the script has 1 reply"""
    triocept_model("developers")
    assert triage("?") == "developers"
    assert triage("!") == "people"


def test_a_handler_that_gives_no_answer(triocept_model):
    """Fails: but it has not answered"""
    triocept_model(handler=lambda exchange: None)
    assert triage("?") == "people"


def test_a_failure_of_its_own_stays(triocept_model):
    """Fails: assert 'developers' == 'accounting'"""
    triocept_model("developers", "left")
    assert triage("?") == "accounting"


def test_a_client_that_was_made_before(triocept_model):
    """Fails: no call came at all: was the client built before"""
    triocept_model("developers")
    assert len(CLIENTS) == 0


@pytest.mark.xfail(raises=KeyError, strict=True)
def test_an_error_that_is_expected(triocept_model):
    def answer(exchange):
        {}["city"]

    triocept_model(handler=answer)
    assert triage("?") == "people"


def test_the_session_lives_on(triocept_model):
    triocept_model("developers")
    assert triage("?") == "developers"
