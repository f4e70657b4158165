"""A budget around a handler: shared by whatever goes through it."""

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.unserved import opened, outcome, outcomes
from triocept import Exchange, Refusal, Response, Text, UpstreamError, Usage
from triocept.errors import LimitReached, MissingPrice
from triocept.handlers import fallback, limits
from triocept.types import Price


async def answer(exchange: Exchange) -> None:
    await exchange.respond(Response((Text("ok"),), usage=Usage(input_tokens=10, output_tokens=10)))


async def test_several_rollouts_share_a_budget_and_none_is_ended_by_it() -> None:
    handler = limits(answer, turns=3)
    async with opened(handler) as one, opened(handler) as two:
        assert await outcomes(one, 2) + await outcomes(two, 2) == ["answered"] * 3 + ["404"]
        assert (one.stopped, two.stopped) == (None, None)
        assert "limits(" in repr(handler)


async def test_ten_calls_at_once_at_a_limit_of_three_turns_are_three_answers_and_seven_refusals() -> None:
    go, found = trio.Event(), list[str]()

    async def held(exchange: Exchange) -> None:
        await go.wait()
        await answer(exchange)

    async def call(number: int) -> None:
        found.append(await outcome(rollout, f"call {number}"))

    async with opened(limits(held, turns=3)) as rollout, trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(call, number)
        await trio.testing.wait_all_tasks_blocked()
        assert found == ["404"] * 7
        go.set()
    assert found == ["404"] * 7 + ["answered"] * 3
    assert [turn.outcome for turn in rollout.trace] == ["refused"] * 7 + ["answered"] * 3


async def test_tokens_and_cost_are_limited_too() -> None:
    async with opened(limits(answer, output_tokens=15)) as rollout:
        assert await outcomes(rollout, 3) == ["answered", "answered", "404"]
    dear = {"*": Price(input=0, output=100_000)}  # 1 for each answer
    async with opened(limits(answer, cost=1.5, prices=dear)) as rollout:
        assert await outcomes(rollout, 3) == ["answered", "answered", "404"]


async def test_a_model_without_a_price_is_an_error_of_the_program() -> None:
    with pytest.raises(MissingPrice):
        async with opened(limits(answer, cost=1, prices={"other": Price(input=1, output=1)})) as rollout:
            await outcomes(rollout, 1)
    assert [turn.outcome for turn in rollout.trace] == ["failed"]


async def test_what_another_handler_answers_counts_for_nothing() -> None:
    async def down(exchange: Exchange) -> None:
        raise UpstreamError("down")

    limited = limits(down, turns=1)
    async with opened(fallback([limited, answer])) as rollout:
        assert await outcomes(rollout, 3) == ["answered"] * 3


async def test_an_exchange_that_its_handler_refuses_gives_its_turn_back() -> None:
    errors = iter([Refusal(429, "later"), None])

    async def handler(exchange: Exchange) -> None:
        if (error := next(errors)) is not None:
            raise error
        await answer(exchange)

    async with opened(limits(handler, turns=1)) as rollout:
        assert await outcomes(rollout, 3) == ["429", "answered", "404"]


async def test_an_agent_that_hangs_up_gives_its_turn_back() -> None:
    go = trio.Event()

    async def held(exchange: Exchange) -> None:
        await go.wait()
        await answer(exchange)

    async with opened(limits(held, turns=1)) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rollout.ask, "never mind")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        go.set()
        assert await outcomes(rollout, 2) == ["answered", "404"]


async def test_its_time_runs_from_the_first_exchange_on_and_cuts_what_is_being_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def in_pieces(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("x" * 40)
            await trio.sleep(40)

    async with opened(limits(in_pieces, seconds=60), within=300) as rollout:
        await trio.sleep(100)
        assert await outcomes(rollout, 3) == ["answered", "404", "404"]
        assert trio.current_time() == pytest.approx(160, abs=0.1)
        assert rollout.stopped is None
    assert [turn.response and turn.response.text for turn in rollout.trace] == ["x" * 40] * 2 + [None]


@pytest.mark.parametrize("ends", ["returns", "is out of time"])
async def test_what_a_limited_handler_leaves_unanswered_costs_nothing_whoever_answers_it(
    ends: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def leave(exchange: Exchange) -> None:
        if ends == "is out of time":
            await trio.sleep_forever()

    async def answer(exchange: Exchange) -> None:
        with suppress(LimitReached):
            await limited(exchange)
        reserved.append(limited._budget._reserved.turns)
        await exchange.respond("mine")

    limited: Any = limits(leave, turns=1, seconds=1)
    reserved: list[int] = []
    async with opened(answer) as rollout:
        for _ in range(3):
            assert await outcome(rollout, "hi") == "answered"
    assert reserved == [0, 0, 0]
    assert limited._budget._spent.turns == 0
