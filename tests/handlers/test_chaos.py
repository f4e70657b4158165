"""A handler of which some calls go wrong: the same ones for the same seed."""

from contextlib import suppress
from typing import Any

import httpx2
import openai
import pytest
import trio
import trio.testing

from tests.asking import ask
from triocept import Exchange, Handler, Refusal, Trace, UpstreamError, serve_endpoint
from triocept.handlers import Fault, chaos
from triocept.testing import SyncExchange, fake_model, open_memory_agent

RATES: dict[str, Any] = {"rate_limit": 0.2, "html": 0.1, "reset": 0.1, "faults": {Fault.status(404): 0.1}}


async def parrot(exchange: Exchange) -> None:
    await exchange.respond(exchange.request.last.text)


async def run(handler: Handler, calls: int = 30, *, at_once: bool = False) -> list[Trace]:
    """The traces of two rollouts, one after the other."""
    traces = []

    async def call(number: int) -> None:
        try:
            await ask(rollout, f"call {number}")
        except httpx2.HTTPError:
            pass

    with trio.fail_after(30):
        async with serve_endpoint() as endpoint:
            for _ in range(2):
                async with endpoint.open_rollout(handler) as rollout, trio.open_nursery() as nursery:
                    for number in range(calls):
                        if at_once:
                            nursery.start_soon(call, number)
                        else:
                            await call(number)
                traces.append(rollout.trace)
    return traces


def told(trace: Trace) -> list[Any]:
    return [
        (turn.outcome, turn.response and turn.response.text, turn.error and turn.error.status, turn.notes)
        for turn in trace
    ]


async def test_the_same_seed_and_the_same_calls_give_the_same_trace_in_every_rollout_and_run() -> None:
    first, second = await run(chaos(parrot, seed=7, **RATES))
    again, _ = await run(chaos(parrot, seed=7, **RATES))
    assert told(first) == told(second) == told(again)
    drawn = {turn.notes["chaos"] for turn in first if "chaos" in turn.notes}
    assert len(drawn) >= 3
    assert 5 < sum(turn.outcome == "answered" for turn in first) < 28
    other, _ = await run(chaos(parrot, seed=8, **RATES))
    assert told(other) != told(first)


async def test_of_calls_at_once_as_many_go_wrong_and_in_the_same_ways() -> None:
    handler = chaos(parrot, seed=7, **RATES)
    one_by_one, _ = await run(handler)
    at_once, _ = await run(chaos(parrot, seed=7, **RATES), at_once=True)
    notes = [sorted(str(turn.notes.get("chaos")) for turn in trace) for trace in (one_by_one, at_once)]
    assert notes[0] == notes[1]


async def test_without_a_rate_nothing_goes_wrong_and_with_all_everything() -> None:
    calm, _ = await run(chaos(parrot, seed=1), 5)
    assert [turn.outcome for turn in calm] == ["answered"] * 5
    wild, _ = await run(chaos(parrot, seed=1, server_error=0.5, overloaded=0.5), 5)
    assert [turn.outcome for turn in wild] == ["refused"] * 5


async def test_one_around_another_of_the_same_seed_draws_for_itself() -> None:
    inner = chaos(parrot, seed=1, overloaded=0.4)
    trace, _ = await run(chaos(inner, seed=1, rate_limit=0.4), 40)
    again, _ = await run(chaos(chaos(parrot, seed=1, overloaded=0.4), seed=1, rate_limit=0.4), 40)
    assert told(trace) == told(again)
    drawn = [turn.notes.get("chaos", "") for turn in trace]
    first = next(number for number, fault in enumerate(drawn) if "429" in fault)
    assert any("529" in fault for fault in drawn[:first])  # with one draw for both none could
    counts = [sum(code in fault for fault in drawn) for code in ("429", "529")]
    assert counts[0] > 8
    assert counts[1] > 4


async def test_a_call_that_is_cancelled_counts() -> None:
    async def hang(exchange: Exchange) -> None:
        await trio.sleep_forever()

    handler = chaos(hang, seed=7, **RATES)
    undisturbed, _ = await run(chaos(parrot, seed=7, **RATES), 10)
    async with open_memory_agent(handler) as agent:

        async def ask_once() -> None:
            with suppress(Refusal, UpstreamError):
                await agent.ask("hi")

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_once)
                await trio.testing.wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
        notes = [turn.notes.get("chaos") for turn in agent.rollout.trace]
    assert notes == [turn.notes.get("chaos") for turn in undisturbed]


def test_a_plain_function_is_answered_by_where_the_door_serves_it_and_refused_in_trio() -> None:
    def answer(exchange: SyncExchange) -> None:
        exchange.respond("plain")

    handler = chaos(answer, seed=7, rate_limit=0.3)
    with fake_model(handler=handler, environ=False) as model:
        client = model.client("openai_chat", max_retries=0)
        heard = []
        for _ in range(12):
            try:
                reply = client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}]
                )
                heard.append(reply.choices[0].message.content)
            except openai.RateLimitError:
                heard.append("429")
    assert set(heard) == {"plain", "429"}

    async def serve() -> None:
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler):
            raise AssertionError

    with pytest.raises(TypeError, match=r"`.*answer` is not async"):
        trio.run(serve)


@pytest.mark.parametrize(("options", "word"), [
    ({"seed": -1}, "seed"),
    ({"seed": "a"}, "seed"),
    ({"seed": 1, "cut": -0.1}, "cut"),
    ({"seed": 1, "cut": 0.6, "reset": 0.6}, "rates"),
    ({"seed": 1, "resets": 0.1}, r"resets.*did you mean reset\?"),
    ({"seed": 1, "faults": {Fault.cut(): 2}}, r"Fault\.cut|rates"),
    ({"seed": 1, "faults": {"cut": 0.1}}, "faults"),
    ({"seed": 1, "faults": 0.1}, "faults"),
])  # fmt: skip
def test_what_is_no_chaos_is_told_at_once(options: dict[str, Any], word: str) -> None:
    with pytest.raises((TypeError, ValueError), match=word):
        chaos(parrot, **options)


def test_what_answers_the_others_is_a_handler() -> None:
    with pytest.raises(TypeError, match="a handler must be"):
        chaos(5, seed=1)  # type: ignore[arg-type]


def test_it_says_what_it_is() -> None:
    assert repr(chaos(parrot, seed=3, cut=0.5)).endswith("seed=3): Fault.cut()>")
