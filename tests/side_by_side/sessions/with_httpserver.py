"""200 tests with pytest-httpserver, whose server is the session's."""

import pytest
from asking import ask

REPLY = {"choices": [{"message": {"role": "assistant", "content": "hi"}}]}


@pytest.mark.parametrize("number", range(200))
def test_alone(number, httpserver):
    assert httpserver.port


@pytest.mark.parametrize("number", range(200))
def test_call(number, httpserver):
    httpserver.expect_request("/v1/chat/completions").respond_with_json(REPLY)
    assert ask(httpserver.url_for("/v1")) == "hi"
