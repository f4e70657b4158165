"""A rollout that stays open though its handler has failed."""

import pytest

from tests.unserved import opened, outcome
from triocept import Exchange


async def fails(exchange: Exchange) -> None:
    if exchange.request.messages[-1].text == "fail":
        raise KeyError("boom")
    await exchange.respond("ok")


async def test_it_stays_open_and_all_that_comes_gets_what_the_first_got() -> None:
    seen = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request.messages[-1].text)
        await fails(exchange)

    with pytest.raises(KeyError, match="boom"):
        async with opened(handler, on_fault="stay") as rollout:
            said = [await outcome(rollout, text) for text in ("one", "fail", "two")]
            assert said == ["answered", "500", "500"]
            assert [type(fault) for fault in rollout.faults] == [KeyError]
            assert [call.messages[-1].text for call in rollout.calls] == ["one", "fail", "two"]
    assert seen == ["one", "fail"]
    assert [turn.outcome for turn in rollout.trace] == ["answered", "failed", "failed"]


async def test_unless_it_is_told_so_its_body_is_cancelled() -> None:
    with pytest.raises(KeyError, match="boom"):
        async with opened(fails) as rollout:
            await outcome(rollout, "fail")
            pytest.fail("the body went on")
    assert len(rollout.faults) == 1


async def test_what_ends_programs_ends_it_all_the_same() -> None:
    async def handler(exchange: Exchange) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        async with opened(handler, on_fault="stay") as rollout:
            await outcome(rollout, "hi")
            pytest.fail("the body went on")


async def test_both_errors_leave_where_the_body_fails_too() -> None:
    with pytest.raises(ExceptionGroup) as group:
        async with opened(fails, on_fault="stay") as rollout:
            await outcome(rollout, "fail")
            raise ValueError("mine")
    assert {type(error) for error in group.value.exceptions} == {KeyError, ValueError}


async def test_what_it_asks_is_known_before_it_is_answered() -> None:
    calls = []

    async def handler(exchange: Exchange) -> None:
        calls.append(list(exchange.rollout.calls))
        await exchange.respond("ok")

    async with opened(handler) as rollout:
        await outcome(rollout, "one")
        await outcome(rollout, "two")
    assert [[call.messages[-1].text for call in some] for some in calls] == [["one"], ["one", "two"]]
