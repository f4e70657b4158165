import pytest
from triage import triage

RUNS: list[int] = []


@pytest.mark.flaky(reruns=2)
def test_what_fails_at_first_has_a_new_model_each_time(triocept_model):
    RUNS.append(1)
    model = triocept_model(*["developers"] * (4 - len(RUNS)))  # left over, but for the third time
    assert triage("?") == "developers"
    assert len(model.trace) == 1


def test_it_ran_three_times():
    assert len(RUNS) == 3
