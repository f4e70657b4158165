"""200 tests with aimock-pytest, on a server for each: its fixture `aimock`."""

import pytest
from asking import ask


@pytest.mark.parametrize("number", range(200))
def test_alone(number, aimock):
    assert aimock.base_url


@pytest.mark.parametrize("number", range(200))
def test_call(number, aimock):
    aimock.on_message("hello", {"content": "hi"})
    assert ask(f"{aimock.base_url}/v1") == "hi"
