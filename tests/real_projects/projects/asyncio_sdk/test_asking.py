import asyncio

import pytest
from asking import ask, stream


@pytest.mark.asyncio
async def test_an_async_application_is_answered(triocept_model):
    model = triocept_model("hello", "good day")
    assert await ask("hi") == "hello"
    assert await stream("hi") == "good day"
    assert [call.dialect for call in model.calls] == ["openai_chat", "anthropic_messages"]


@pytest.mark.asyncio
async def test_the_calls_are_held_in_ones_own_hands(triocept_model):
    model = triocept_model()
    answer = asyncio.create_task(ask("hi"))
    exchange = await model.anext()
    assert exchange.request.last.text == "hi"
    exchange.respond("by hand")
    assert await answer == "by hand"


@pytest.mark.asyncio
async def test_ten_calls_at_once(triocept_model):
    async def answer(exchange):
        await exchange.respond(exchange.request.last.text)

    triocept_model(handler=answer)
    texts = [str(number) for number in range(10)]
    assert await asyncio.gather(*map(ask, texts)) == texts


@pytest.mark.asyncio
async def test_an_error_of_the_handler(triocept_model):
    """Fails: KeyError: 'city'"""

    def answer(exchange):
        {}["city"]

    triocept_model(handler=answer)
    assert await ask("hi")


@pytest.mark.asyncio
async def test_a_call_that_nobody_answers(triocept_model):
    """Fails: these calls were not answered"""
    model = triocept_model()
    task = asyncio.create_task(ask("hi"))
    while not model.calls:
        await asyncio.sleep(0.01)
    assert not task.done()


def test_a_sync_test_beside_them(triocept_model):
    triocept_model("hello")
    assert asyncio.run(ask("hi")) == "hello"
