"""A handler on one exchange, without an endpoint."""

from typing import Any

import pytest
import trio
import trio.testing

from triocept import Exchange, Refusal, ToolCall, UpstreamError
from triocept.dialects import DIALECTS
from triocept.errors import Unanswered
from triocept.testing import open_exchange


async def answer(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("hel")
        await trio.sleep(2)
        await stream.send("lo")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_afterwards_its_turn_says_what_became_of_it(
    dialect: str, stream: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_exchange("hi", dialect=dialect, stream=stream) as exchange:
        assert exchange.turn is None
        await answer(exchange)
        assert exchange.turn is not None
    turn = exchange.turn
    assert (turn.outcome, turn.dialect, turn.duration) == ("answered", dialect, 2)
    assert turn.response.text == "hello"
    assert turn.increments is not None
    assert turn.wire.status == 200
    assert exchange.request.stream == stream


async def test_what_it_raises_settles_it_and_leaves_bare() -> None:
    with pytest.raises(Refusal, match="no"):
        async with open_exchange("hi") as exchange:
            raise Refusal(403, "no")
    assert exchange.turn.outcome == "refused"
    with pytest.raises(KeyError):
        async with open_exchange("hi") as exchange:
            raise KeyError("x")
    assert (exchange.turn.outcome, exchange.turn.error and exchange.turn.error.type) == ("failed", "KeyError")


async def test_a_handler_that_forgets_to_answer_is_told_so() -> None:
    with pytest.raises(Unanswered, match="the block has ended"):
        async with open_exchange("hi") as exchange:
            pass
    assert exchange.turn.outcome == "failed"


async def test_a_cancelled_block_is_no_answer() -> None:
    with trio.CancelScope() as scope:
        async with open_exchange("hi") as exchange:
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert exchange.turn.outcome == "abandoned"


async def test_documents_headers_and_options_arrive() -> None:
    document: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}], "seed": 3}
    async with open_exchange(document, headers={"X-Task": "7"}, model="other", id="mine") as exchange:
        assert (exchange.request.model, exchange.request.sampling.seed) == ("m-1", 3)
        assert exchange.headers["x-task"] == "7"
        assert (exchange.rollout.id, exchange.raw) == ("mine", document)
        await exchange.respond(ToolCall.of("look"))
    assert exchange.rollout.trace[0] is exchange.turn


async def test_what_becomes_no_exchange_is_its_refusal() -> None:
    with pytest.raises(UpstreamError, match="messages") as raised:
        async with open_exchange({"model": "m", "messages": 3}):
            raise AssertionError("there is none")
    assert raised.value.status == 400
    with pytest.raises(TypeError):
        async with open_exchange(3):  # type: ignore[arg-type]
            raise AssertionError("there is none")
