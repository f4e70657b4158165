import pytest
from triage import triage


@pytest.mark.parametrize("number", range(200))
def test_one_of_many(triocept_model, number):
    triocept_model("developers")
    assert triage("?") == "developers"
