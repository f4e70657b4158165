"""200 tests of nothing."""

import pytest


@pytest.mark.parametrize("number", range(200))
def test_alone(number):
    pass


@pytest.mark.parametrize("number", range(200))
def test_call(number):
    pass
