import sys

import pytest


@pytest.mark.parametrize("number", range(50))
def test_nothing_of_triocept_is_loaded(number):
    assert "triocept" not in sys.modules
