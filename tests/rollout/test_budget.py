"""What a rollout may spend: over sockets where it matters what the agent sees, else by `rollout.ask`."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asking import STREAM_PATHS, ask, ask_body, bearer, document, echo, url_of
from tests.unserved import opened, outcomes
from triocept import (
    Exchange,
    Handler,
    JSONLRecorder,
    Limits,
    Refusal,
    Response,
    Rollout,
    Text,
    UpstreamError,
    Usage,
    open_upstream,
    read_traces,
    serve_endpoint,
)
from triocept.errors import MissingPrice
from triocept.handlers import limits as within
from triocept.types import Price

PRICES = {"dear": Price(input=10, output=100, cached_input=1, cache_write=20), "*": Price(input=1, output=2)}
MILLION = 1_000_000


class Held:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._more = trio.Condition()
        self.go = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        async with self._more:
            self._more.notify_all()
        await self.go.wait()
        await exchange.respond("at last")

    async def wait_for(self, count: int) -> None:
        async with self._more:
            while len(self.exchanges) < count:
                await self._more.wait()


def counted(input_tokens: int, output_tokens: int, **more: int) -> Handler:
    async def handler(exchange: Exchange) -> None:
        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, **more)
        await exchange.respond(Response((Text("x"),), usage=usage))

    return handler


# Turns


@asynccontextmanager
async def answering(rollout: Rollout, how: str, handler: Handler) -> AsyncIterator[None]:
    """Let a handler answer, as a loop or as a service; it ends with the rollout."""
    async with trio.open_nursery() as nursery:
        if how == "serve":
            nursery.start_soon(rollout.serve, handler)
        if how == "loop":

            async def loop() -> None:
                async for exchange in rollout:
                    nursery.start_soon(handler, exchange)

            nursery.start_soon(loop)
        yield


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("how", ["handler", "serve", "loop"])
async def test_ten_calls_at_once_at_a_limit_of_three_turns_are_three_answers_and_seven_refusals(
    how: str,
) -> None:
    held, answers = Held(), list[httpx2.Response]()

    async def call(number: int) -> None:
        answers.append(await ask(rollout, f"call {number}"))

    async with serve_endpoint() as endpoint:
        opening = endpoint.open_rollout(held if how == "handler" else None, limits=Limits(turns=3))
        async with opening as rollout, answering(rollout, how, held), trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(call, number)
            await held.wait_for(3)
            while len(answers) < 7:
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert [answer.status_code for answer in answers] == [404] * 7
            held.go.set()
    assert [answer.status_code for answer in answers] == [404] * 7 + [200] * 3
    assert {answer.headers["x-should-retry"] for answer in answers[:7]} == {"false"}
    assert "limit of 3 turns" in answers[0].json()["error"]["message"]
    assert rollout.stopped == "the limit of 3 turns is reached (3 of them still in progress)"
    assert [turn.outcome for turn in rollout.trace].count("answered") == 3
    refused = [turn for turn in rollout.trace if turn.outcome != "answered"]
    assert [turn.error and turn.error.type for turn in refused] == [
        "LimitReached"
    ]  # later ones leave no turn


async def test_a_limit_that_is_used_up_and_not_crossed_stops_nothing() -> None:
    async with opened(echo, Limits(turns=2)) as rollout:
        assert await outcomes(rollout, 2) == ["answered"] * 2
        assert rollout.stopped is None
        assert await outcomes(rollout, 2) == ["404"] * 2
        assert rollout.stopped == rollout.trace.stopped == "the limit of 2 turns is reached"
    assert len(rollout.trace) == 3


async def test_a_limit_of_nothing_answers_nothing() -> None:
    for limits in (
        Limits(turns=0),
        Limits(input_tokens=0),
        Limits(output_tokens=0),
        Limits(total_tokens=0),
        Limits(cost=0, prices=PRICES),
    ):
        async with opened(echo, limits) as rollout:
            assert await outcomes(rollout, 1) == ["404"]


async def test_the_iteration_ends_when_the_last_call_within_the_limit_is_taken() -> None:
    taken: list[Exchange] = []
    async with opened(None, Limits(turns=2)) as rollout, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(outcomes, rollout, 1)
        await trio.testing.wait_all_tasks_blocked()
        async for exchange in rollout:
            await exchange.respond("taken after the limit was reached")
            taken.append(exchange)
    assert len(taken) == 2


async def test_a_call_that_is_not_answered_gives_its_turn_back() -> None:
    errors = iter([Refusal(429, "later"), UpstreamError("down"), None, Refusal(400, "no"), None])

    async def handler(exchange: Exchange) -> None:
        error = next(errors)
        if error is not None:
            raise error
        await exchange.respond("ok")

    async with opened(handler, Limits(turns=2)) as rollout:
        assert await outcomes(rollout, 6) == ["429", "502", "answered", "400", "answered", "404"]


async def test_a_call_that_is_not_answered_gives_its_turn_back_while_others_are_on_their_way() -> None:
    held = Held()

    async def handler(exchange: Exchange) -> None:
        if exchange.request.last.text == "refuse":
            raise Refusal(429, "later")
        await held(exchange)

    async with opened(handler, Limits(turns=2)) as rollout, trio.open_nursery() as nursery:
        nursery.start_soon(rollout.ask, "hold")
        await held.wait_for(1)
        for _ in range(2):
            with pytest.raises(Refusal, match="later"):
                await rollout.ask("refuse")
        held.go.set()


async def test_an_agent_that_hangs_up_gives_its_turn_back() -> None:
    held = Held()
    async with opened(held, Limits(turns=1)) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rollout.ask, "never mind")
            await held.wait_for(1)
            nursery.cancel_scope.cancel()
        held.go.set()
        assert await outcomes(rollout, 2) == ["answered", "404"]


async def test_the_programs_own_calls_count() -> None:
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo, limits=Limits(turns=1)) as rollout:
        await rollout.ask("mine")
        assert (await ask(rollout, "the agent's")).status_code == 404


@pytest.mark.usefixtures("every_way")
async def test_a_retry_that_shares_an_answer_costs_nothing_even_when_the_limit_is_reached() -> None:
    held, statuses = Held(), list[int]()
    retry = {"x-stainless-retry-count": "1"}

    async def call(text: str, headers: dict[str, str]) -> None:
        async with httpx2.AsyncClient(timeout=None) as client:
            response = await client.post(
                url_of(rollout), json=ask_body(text), headers=bearer(rollout) | headers
            )
        statuses.append(response.status_code)

    async with serve_endpoint() as endpoint, endpoint.open_rollout(held, limits=Limits(turns=1)) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, "one", {})
            await held.wait_for(1)
            await call("another", {})
            assert statuses == [404]
            nursery.start_soon(call, "one", retry)
            while rollout._core.calls.connections < 2:
                await trio.testing.wait_all_tasks_blocked(0.01)
            held.go.set()
        assert statuses == [404, 200, 200]
        await call("one", retry)
        assert statuses == [404, 200, 200, 200]  # the same answer again
    assert [turn.outcome for turn in rollout.trace] == ["refused", "answered"]


async def test_stop_cuts_what_a_limit_lets_finish() -> None:
    held, statuses = Held(), list[str]()

    async def call() -> None:
        statuses.extend(await outcomes(rollout, 1))

    async with opened(held, Limits(turns=1)) as rollout:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await held.wait_for(1)
            assert await outcomes(rollout, 1) == ["404"]
            await rollout.stop("that is all")
        assert statuses == ["404"]
        held.go.set()
    assert rollout.stopped == "the limit of 1 turn is reached (1 of them still in progress)"


# Tokens and cost


@pytest.mark.parametrize(
    ("limits", "answered"),
    [
        (Limits(output_tokens=100), 2),  # 60, 120
        (Limits(input_tokens=250), 3),  # 100, 200, 300: these prompts are estimated at one token each
        (Limits(input_tokens=200), 2),
        (Limits(total_tokens=300), 2),  # 160, 320
        (Limits(cost=0.0005, prices={"*": Price(input=1, output=2)}), 3),  # 0.00022 each
    ],
    ids=repr,
)
async def test_the_call_that_would_cross_a_line_is_refused(limits: Limits, answered: int) -> None:
    async with opened(counted(100, 60), limits) as rollout:
        found = await outcomes(rollout, 5)
    assert found == ["answered"] * answered + ["404"] * (5 - answered)
    assert rollout.stopped is not None
    assert "is reached" in rollout.stopped


async def test_a_prompt_that_alone_exceeds_the_limit_is_refused_before_anybody_reads_it() -> None:
    async with opened(counted(1, 1), Limits(input_tokens=100)) as rollout:
        with pytest.raises(Refusal, match="this call would need 250 or more"):
            await rollout.ask("x" * 1000)


async def test_the_input_of_calls_on_their_way_is_reserved() -> None:
    held = Held()
    async with opened(held, Limits(input_tokens=1000)) as rollout, trio.open_nursery() as nursery:
        for letter in "abc":
            nursery.start_soon(rollout.ask, letter * 1200)  # 300 tokens each
        await held.wait_for(3)
        with pytest.raises(Refusal, match="calls in progress need 900 or more"):
            await rollout.ask("d" * 1200)
        held.go.set()


async def test_fractions_of_a_cost_that_were_reserved_leave_nothing_behind() -> None:
    """0.1 + 0.2 - 0.1 - 0.2 is not 0, as computers count."""
    held = Held()
    async with opened(held, Limits(cost=1, prices={"*": Price(input=0.1, output=0)})) as rollout:
        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                nursery.start_soon(rollout.ask, "x" * 444 * number)
            await held.wait_for(5)
            assert rollout._core.budget._reserved.cost > 0
            held.go.set()
        assert rollout._core.budget._reserved.cost == 0


async def test_what_is_on_its_way_when_another_call_spends_the_tokens_is_finished() -> None:
    held, said = Held(), list[str]()

    async def handler(exchange: Exchange) -> None:
        await (counted(1, 1000) if exchange.request.last.text == "spend" else held)(exchange)

    async def call() -> None:
        said.append((await rollout.ask("hold")).text)

    async with opened(handler, Limits(output_tokens=100)) as rollout, trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await held.wait_for(1)
        await rollout.ask("spend")
        assert await outcomes(rollout, 1) == ["404"]
        held.go.set()
    assert said == ["at last"]


async def test_an_answer_that_broke_off_costs_what_had_come() -> None:
    async def breaks(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("x" * 400)
            raise UpstreamError("broke")

    async with opened(breaks, Limits(output_tokens=150, prices=PRICES)) as rollout:
        assert await outcomes(rollout, 3) == ["502", "502", "404"]  # 100 tokens each
    assert rollout.trace.cost == pytest.approx(2 * (1 + 200) / MILLION)


@pytest.mark.parametrize(("usage", "cost"), [
    (Usage(input_tokens=1000, output_tokens=10), 1000 * 10 + 10 * 100),
    (Usage(input_tokens=1000, output_tokens=10, cached_tokens=900), 100 * 10 + 900 * 1 + 10 * 100),
    (Usage(input_tokens=1000, output_tokens=0, cached_tokens=900, cache_write_tokens=100),
     900 * 1 + 100 * 20),
])  # fmt: skip
def test_a_price_knows_caches(usage: Usage, cost: float) -> None:
    assert PRICES["dear"].cost(usage) == pytest.approx(cost / MILLION)
    assert Price(input=1, output=0).cost(usage) == pytest.approx(1000 / MILLION)


async def test_a_model_without_a_price_fails_the_rollout_before_it_is_answered() -> None:
    asked: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        asked.append(exchange)

    status = 0
    with pytest.raises(MissingPrice, match=r"'m' has no price; Limits.prices contains only dear"):
        async with serve_endpoint() as endpoint:
            limits = Limits(cost=1, prices={"dear": PRICES["dear"]})
            async with endpoint.open_rollout(handler, limits=limits) as rollout:
                with trio.CancelScope(shield=True):
                    status = (await ask(rollout)).status_code
                    await ask(rollout, "again")  # it fails once only
    assert status == 500
    assert asked == []


async def test_the_cost_of_a_trace_is_known_where_all_prices_are() -> None:
    async with opened(counted(MILLION, 0), Limits(prices=PRICES), model="dear") as rollout:
        assert rollout.trace.cost == 0
        await rollout.ask("x")
        assert rollout.trace.cost == pytest.approx(10)
        async with rollout.open_child(echo, model="cheap", limits=Limits(turns=1)) as child:
            await child.ask("y")
        assert child.trace.cost == pytest.approx(3 / MILLION)
        assert rollout.trace.cost == pytest.approx(10 + 3 / MILLION)
        assert rollout.trace.cost_of({"dear": Price(input=1, output=1)}) is None
    async with opened(echo) as rollout:
        assert rollout.trace.cost is None


async def test_a_turn_costs_what_its_upstream_was_told_to_ask_for() -> None:
    async def forwarding(exchange: Exchange) -> None:
        exchange.annotate(upstream={"model": "dear"})
        await counted(MILLION, 0)(exchange)

    async with opened(forwarding, Limits(cost=5, prices=PRICES)) as rollout:
        assert await outcomes(rollout, 2) == ["answered", "404"]
        assert rollout.trace.cost == pytest.approx(10)


@pytest.mark.parametrize(("prices", "costs"), [
    ({"told": 3, "m": 5}, 3),
    ({"told": 3}, 3),
    ({"t*": 3, "*": 5}, 3),
    ({"m": 5}, 5),
    ({"*": 5}, 5),
    ({"m": 5, "*": 3}, 3),
])  # fmt: skip
@pytest.mark.parametrize("around", [False, True])
async def test_a_turn_costs_the_same_before_and_after_it_is_answered(
    prices: dict[str, float], costs: float, around: bool
) -> None:
    """The upstream's model, then the agent's: for the limit, which asks before, and for the trace, which asks after."""
    bounds = Limits(cost=costs, prices={name: Price(input=price, output=0) for name, price in prices.items()})
    async with serve_endpoint() as endpoint, endpoint.open_rollout(counted(MILLION, 0)) as provider:
        url, key = provider.base_url("openai_chat"), provider.api_key
        async with open_upstream(url, dialect="openai_chat", api_key=key, model="told") as upstream:
            handler = within(upstream, cost=costs, prices=bounds.prices) if around else upstream
            async with endpoint.open_rollout(
                handler, limits=None if around else bounds, model="m"
            ) as rollout:
                assert await outcomes(rollout, 2) == ["answered", "404"]
                assert rollout.trace.cost_of(bounds.prices) == costs


async def test_a_missing_price_names_the_model_of_the_upstream_and_that_of_the_agent() -> None:
    bounds = Limits(cost=1, prices={"dear": PRICES["dear"]})
    text = r"neither the model 'told' \(set on the upstream\) nor the model 'm' \(requested by the agent\) has a price"
    async with open_upstream("http://127.0.0.1:9/v1", dialect="openai_chat", model="told") as upstream:
        with pytest.raises(MissingPrice, match=text):
            async with (
                serve_endpoint() as endpoint,
                endpoint.open_rollout(upstream, limits=bounds) as rollout,
            ):
                await ask(rollout)


def test_prices_that_change_change_no_limits() -> None:
    prices = {"m": Price(input=1, output=2)}
    limits = Limits(cost=1, prices=prices)
    prices.clear()
    assert list(limits.prices) == ["m"]


@pytest.mark.parametrize(
    "fields", [{"turns": -1}, {"seconds": float("nan")}, {"cost": 1.0}, {"cost": -1.0, "prices": PRICES}]
)
def test_a_limit_that_makes_no_sense_is_told_at_once(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Limits.* must be 0 or more|no prices are set"):
        Limits(**fields)
    with pytest.raises(ValueError, match=r"Price.input must be 0 or more"):
        Price(input=-1, output=0)


# Children


async def test_a_childs_calls_count_into_its_parent_and_stop_it() -> None:
    async with opened(echo, Limits(turns=3)) as rollout:
        async with rollout.open_child(echo) as child, child.open_child(echo) as grandchild:
            assert await outcomes(rollout, 1) + await outcomes(child, 1) == ["answered"] * 2
            assert await outcomes(grandchild, 2) == ["answered", "404"]
            assert await outcomes(rollout, 1) + await outcomes(child, 1) == ["404"] * 2
            reason = "the limit of 3 turns is reached"
            assert [it.stopped for it in (rollout, child, grandchild)] == [reason] * 3


async def test_a_child_may_have_less_and_its_end_is_its_own() -> None:
    async with opened(echo, Limits(turns=5)) as rollout:
        async with rollout.open_child(echo, limits=Limits(turns=1)) as child:
            assert await outcomes(child, 3) == ["answered", "404", "404"]
            assert (child.stopped, rollout.stopped) == ("the limit of 1 turn is reached", None)
        assert await outcomes(rollout, 5) == ["answered"] * 4 + [
            "404"
        ]  # what was refused in the child is no turn


async def test_a_child_with_limits_of_its_own_needs_no_limited_parent() -> None:
    async with opened(echo) as rollout, rollout.open_child(echo, limits=Limits(turns=1)) as child:
        assert await outcomes(child, 2) == ["answered", "404"]
        assert await outcomes(rollout, 3) == ["answered"] * 3


async def test_what_is_on_its_way_in_a_child_is_finished_when_the_parents_limit_is_reached() -> None:
    held, said = Held(), list[str]()

    async def call() -> None:
        said.append((await child.ask("hold")).text)

    async with opened(echo, Limits(turns=1)) as rollout, rollout.open_child(held) as child:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await held.wait_for(1)
            assert await outcomes(rollout, 1) == ["404"]
            held.go.set()
    assert said == ["at last"]


# Time


async def test_a_call_that_nobody_has_taken_is_refused_when_the_time_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(None, Limits(seconds=60), within=300) as rollout:
        with pytest.raises(Refusal, match="the limit of 60 seconds is reached"):
            await rollout.ask("is anybody there?")
        assert trio.current_time() == pytest.approx(60, abs=0.1)
        assert [exchange async for exchange in rollout] == []
        assert await outcomes(rollout, 1) == ["404"]
    assert rollout.stopped == "the limit of 60 seconds is reached"
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_a_call_that_is_being_answered_is_refused_when_the_time_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(40)
        await exchange.respond("slow")

    async with opened(slow, Limits(seconds=60), within=300) as rollout:
        assert await outcomes(rollout, 2) == ["answered", "404"]
        assert trio.current_time() == pytest.approx(60, abs=0.1)


async def test_the_time_of_a_rollout_that_ends_before_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(echo, Limits(seconds=60), within=300) as rollout:
        await rollout.ask("x")
    assert trio.current_time() < 1
    assert rollout.stopped is None


async def test_a_childs_time_is_its_own_and_its_parents(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(echo, Limits(seconds=60), within=300) as rollout:
        async with rollout.open_child(echo, limits=Limits(seconds=10)) as child:
            await trio.sleep(20)
            assert (child.stopped, rollout.stopped) == ("the limit of 10 seconds is reached", None)
        async with rollout.open_child(echo) as child:
            await trio.sleep(60)
            assert child.stopped == rollout.stopped == "the limit of 60 seconds is reached"


class Interrupted(float):
    """Seconds in whose moment of being written down somebody presses Ctrl-C."""

    def __format__(self, how: str) -> str:
        signal.raise_signal(signal.SIGINT)
        return super().__format__(how)


def test_a_ctrl_c_does_not_keep_the_time_that_is_over_from_ending_its_rollout() -> None:
    rollouts: list[Rollout] = []

    async def main() -> None:
        async with opened(echo, Limits(seconds=Interrupted(0.01))) as rollout:
            rollouts.append(rollout)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert rollouts[0].stopped == "the limit of 0.01 seconds is reached"


@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("dialect", list(STREAM_PATHS))
@pytest.mark.parametrize("busy", [False, True], ids=["in a silence", "in the midst of words"])
async def test_a_stream_breaks_in_its_dialect_when_the_time_is_over(
    dialect: str, busy: bool, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 1.0

    async def endless(exchange: Exchange) -> None:
        async with exchange.open_stream() as stream:
            await stream.send("once")
            while busy:
                await stream.send(" more")
                await trio.sleep(0.001)
            await trio.sleep_forever()

    text = b""
    async with serve_endpoint() as endpoint:
        async with endpoint.open_rollout(endless, limits=Limits(seconds=300)) as rollout:
            url = url_of(rollout).removesuffix("/v1/chat/completions") + STREAM_PATHS[dialect]
            async with httpx2.AsyncClient(timeout=None) as client:
                asked = client.stream(
                    "POST", url, json=document(dialect, stream=True), headers=bearer(rollout)
                )
                async with asked as response:
                    with pytest.raises(httpx2.RemoteProtocolError):
                        async for data in response.aiter_raw():
                            text += data
                            if b"once" in text and mock_clock.current_time() < 300:
                                mock_clock.jump(300)
    assert b"once" in text
    assert b"the limit of 300 seconds is reached" in text
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


# Whatever happens in whatever order

STEPS = st.lists(st.sampled_from(["begin", "begin", "answer", "refuse", "break", "hang up"]), max_size=40)


@given(steps=STEPS, turns=st.integers(0, 4), child=st.booleans())
@settings(deadline=None, max_examples=60)
def test_there_are_never_more_answers_than_turns(steps: list[str], turns: int, child: bool) -> None:
    trio.run(_assert_never_more_answers, steps, turns, child)


async def _assert_never_more_answers(steps: list[str], turns: int, with_child: bool) -> None:
    async with opened(None, Limits(turns=turns)) as rollout, rollout.open_child() as child:
        taken: list[Exchange] = []
        hang_ups: dict[str, Callable[[], None]] = {}
        begun = 0

        async def call(target: Rollout, text: str) -> None:
            with trio.CancelScope() as scope:
                hang_ups[text] = scope.cancel
                try:
                    await target.ask(text)
                except Refusal:
                    pass

        async def take(target: Rollout) -> None:
            async for exchange in target:
                taken.append(exchange)  # noqa: PERF401 - each is looked at at once

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, rollout)
            nursery.start_soon(take, child)
            for step in steps:
                if step == "begin":
                    begun += 1
                    target = child if with_child and begun % 2 else rollout
                    nursery.start_soon(call, target, f"call {begun}")
                elif taken:
                    exchange = taken.pop()
                    if step == "answer":
                        await exchange.respond("ok")
                    elif step == "refuse":
                        await exchange.refuse(429, "no")
                    elif step == "break":
                        with pytest.raises(ZeroDivisionError):
                            async with exchange.open_stream() as stream:
                                await stream.send("half")
                                raise ZeroDivisionError
                    else:
                        hang_ups[exchange.request.last.text]()
                await trio.testing.wait_all_tasks_blocked()
                assert len(taken) + _answers(rollout, child) <= turns
            for exchange in taken:
                await exchange.respond("ok")
            await rollout.stop("over")
        assert rollout._core.budget._reserved.turns == 0
        assert _answers(rollout, child) == rollout._core.budget._spent.turns <= turns


def _answers(*rollouts: Rollout) -> int:
    return sum(turn.outcome == "answered" for rollout in rollouts for turn in rollout.trace)


async def test_a_file_says_why_a_run_was_stopped_and_tells_what_it_cost(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    recorder = JSONLRecorder(file)
    async with opened(counted(MILLION, 0), Limits(turns=1), recorder=recorder, id="a") as rollout:
        await outcomes(rollout, 2)
    async with opened(echo, id="b", recorder=recorder):
        pass
    await recorder.aclose()
    stopped, other = read_traces(file)
    assert (stopped.stopped, other.stopped) == ("the limit of 1 turn is reached", None)
    assert (stopped.cost, stopped.cost_of(PRICES)) == (None, pytest.approx(1))


async def test_the_reason_of_a_stop_is_kept_and_a_close_is_none() -> None:
    async with opened(echo) as rollout:
        assert rollout.stopped is None
        await rollout.stop("enough")
        await rollout.stop("more than enough")
        assert rollout.stopped == "enough"
    async with opened(echo) as other:
        pass
    assert (rollout.trace.stopped, other.trace.stopped) == ("enough", None)


@pytest.mark.parametrize("amount", [float("nan"), -1, True, "5"])
@pytest.mark.parametrize("name", ["turns", "total_tokens", "seconds", "cost"])
def test_a_limit_is_a_number_from_0_on(name: str, amount: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"Limits\.{name} must be"):
        Limits(**{name: amount}, prices=PRICES)


@pytest.mark.parametrize("amount", [float("nan"), -1])
def test_a_price_is_a_number_from_0_on(amount: float) -> None:
    with pytest.raises(ValueError, match=r"Price\.output must be 0 or more"):
        Price(input=1, output=amount)
