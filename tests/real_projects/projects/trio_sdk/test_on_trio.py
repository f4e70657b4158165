import pytest
import trio
from asking import ask, stream


@pytest.fixture
async def model(triocept_model):
    return triocept_model("hello", "good day")


async def test_an_application_on_trio_is_answered(model):
    assert await ask("hi") == "hello"
    assert await stream("hi") == "good day"
    assert len(model.trace) == 2


async def test_the_calls_are_held_in_ones_own_hands(triocept_model):
    model = triocept_model()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "hi")
        exchange = await model.anext()
        assert exchange.request.last.text == "hi"
        exchange.respond("by hand")


async def test_an_error_of_the_handler(triocept_model):
    """Fails: KeyError: 'city'"""

    async def answer(exchange):
        {}["city"]

    triocept_model(handler=answer)
    assert await ask("hi")


async def test_a_reply_that_is_left_over(model):
    """Fails: was not used"""
    assert await ask("hi") == "hello"
