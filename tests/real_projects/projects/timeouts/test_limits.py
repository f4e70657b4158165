import pytest
from triage import triage


@pytest.mark.timeout(1)
def test_the_first_has_its_second_for_itself(triocept_model):
    """triocept was loaded before its clock ran."""
    triocept_model("developers")
    assert triage("?") == "developers"


@pytest.mark.timeout(1)
def test_a_call_that_is_waited_for_in_vain(triocept_model):
    """Fails: Timeout"""
    model = triocept_model()
    assert model.next()


@pytest.mark.timeout(1)
def test_a_handler_that_never_answers(triocept_model):
    """Fails: Timeout"""
    import time

    triocept_model(handler=lambda exchange: time.sleep(30))
    assert triage("?")


def test_the_next_is_answered(triocept_model):
    triocept_model("developers")
    assert triage("?") == "developers"
