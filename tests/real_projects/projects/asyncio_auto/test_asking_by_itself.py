import asyncio

import pytest
from asking import ask, stream


@pytest.fixture
async def model(triocept_model):
    return triocept_model("hello", "good day")


async def test_a_test_without_a_mark_is_answered(model):
    assert await ask("hi") == "hello"
    assert await stream("hi") == "good day"
    assert len(model.trace) == 2


async def test_a_reply_that_is_left_over(model):
    """Fails: was not used"""
    assert await ask("hi") == "hello"


async def test_an_error_of_the_handler(triocept_model):
    """Fails: KeyError: 'city'"""

    async def answer(exchange):
        {}["city"]

    triocept_model(handler=answer)
    assert await ask("hi")


def test_a_sync_test_beside_them(triocept_model):
    triocept_model("hello")
    assert asyncio.run(ask("hi")) == "hello"
