import anyio
import pytest
from asking import ask, stream

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def test_an_application_on_either_loop_is_answered(triocept_model):
    model = triocept_model("hello", "good day")
    assert await ask("hi") == "hello"
    assert await stream("hi") == "good day"
    assert len(model.trace) == 2


async def test_the_calls_are_held_in_ones_own_hands(triocept_model):
    model = triocept_model()
    said = []

    async def application():
        said.append(await ask("hi"))

    async with anyio.create_task_group() as group:
        group.start_soon(application)
        exchange = await model.anext()
        exchange.respond("by hand")
    assert said == ["by hand"]


async def test_an_error_of_the_handler_in_a_group(triocept_model):
    """Fails: KeyError: 'city'"""

    async def answer(exchange):
        {}["city"]

    triocept_model(handler=answer)
    async with anyio.create_task_group() as group:
        group.start_soon(ask, "hi")
    assert group
