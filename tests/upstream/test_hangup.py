"""When the agent goes, the provider's work ends; with the policy `finish` it is completed and kept."""

import pytest
import trio

from triocept import Exchange

from .conftest import Stage, begin_to_read, staged
from .provider import CHAT, END, MESSAGES, Answer, Asked, answers, chunk, head, wire_stream

QUICK = 0.1
"""Seconds that the provider's connection may live on."""


class Stuck:
    """A provider that sends the beginning of a stream, and then nothing; it notes when its client is gone."""

    def __init__(self, beginning: int) -> None:
        self.beginning = beginning
        self.begun = trio.Event()
        self.gone_at: float | None = None
        self.gone = trio.Event()

    async def __call__(self, asked: Asked, stream: trio.SocketStream) -> None:
        if self.beginning:
            await stream.send_all(head() + chunk(b"".join(wire_stream(CHAT)[: self.beginning])))
        self.begun.set()
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        self.gone_at = trio.current_time()
        self.gone.set()


async def hang_up(stage: Stage, stuck: Stuck, agent: str) -> float:
    """Ask, hang up once the provider is at work; the seconds until it knows."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_without_end, stage, agent)
        await stuck.begun.wait()
        left = trio.current_time()
        nursery.cancel_scope.cancel()
    await stuck.gone.wait()
    assert stuck.gone_at is not None
    return stuck.gone_at - left


async def ask_without_end(stage: Stage, agent: str) -> None:
    await begin_to_read(stage, agent, until=b"never")


@pytest.mark.parametrize("agent", [CHAT, MESSAGES])
@pytest.mark.parametrize("beginning", [0, 3])
async def test_a_hang_up_closes_the_providers_connection_at_once(agent: str, beginning: int) -> None:
    taken: list[float] = []
    while len(taken) < 3 and not any(
        seconds < QUICK for seconds in taken
    ):  # a busy machine may need a second try
        stuck = Stuck(beginning)
        with trio.fail_after(30):
            async with staged(stuck, CHAT) as stage:
                taken.append(await hang_up(stage, stuck, agent))
        (turn,) = stage.rollout.trace
        assert turn.outcome == "abandoned"
    assert min(taken) < QUICK


async def test_it_does_so_too_where_a_program_forwards_in_a_loop_of_its_own() -> None:
    stuck = Stuck(0)
    async with staged(answers(CHAT), CHAT) as plain, staged(stuck, CHAT) as stage:
        async with plain.endpoint.open_rollout() as rollout, trio.open_nursery() as nursery:
            mine = Stage(stage.provider, stage.upstream, plain.endpoint, rollout)

            async def loop() -> None:
                async for exchange in rollout:
                    try:
                        await exchange.forward(stage.upstream)
                    except Exception as exc:
                        raised.append(exc)

            raised: list[Exception] = []
            nursery.start_soon(loop)
            await hang_up(mine, stuck, CHAT)
            nursery.cancel_scope.cancel()
    assert [type(exc).__name__ for exc in raised] == ["ExchangeAbandoned"]


async def test_with_the_policy_finish_the_answer_is_completed_and_kept_for_the_retry() -> None:
    go_on = trio.Event()
    pieces = wire_stream(CHAT)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(head() + chunk(b"".join(pieces[:3])))
        await go_on.wait()
        await stream.send_all(chunk(b"".join(pieces[3:])) + END)

    async with staged(answer, CHAT, rollout={"on_hangup": "finish"}) as stage:
        await begin_to_read(stage, CHAT, until=b"Hel")
        go_on.set()
        while not len(stage.rollout.trace):
            await trio.sleep(0.01)
        again = await stage.ask(CHAT, stream=True)
    assert again.content == b"".join(pieces)
    assert len(stage.provider.asked) == 1
    assert stage.rollout.trace[0].outcome == "answered"


async def test_stopping_the_rollout_ends_the_providers_work_and_the_handler_is_not_at_fault() -> None:
    stuck = Stuck(3)
    async with staged(stuck, CHAT) as stage, trio.open_nursery() as nursery:
        nursery.start_soon(ask_until_broken, stage)
        await stuck.begun.wait()
        await stage.rollout.stop("enough")
        await stuck.gone.wait()
        nursery.cancel_scope.cancel()
    assert [turn.outcome for turn in stage.rollout.trace] == ["refused"]


async def ask_until_broken(stage: Stage) -> None:
    try:
        await begin_to_read(stage, CHAT, until=b"never")
    except trio.BrokenResourceError:
        pass


async def test_leaving_the_rollout_ends_the_providers_work() -> None:
    stuck = Stuck(3)
    async with staged(stuck, CHAT) as stage, trio.open_nursery() as nursery:
        async with stage.endpoint.open_rollout(stage.upstream) as rollout:
            mine = Stage(stage.provider, stage.upstream, stage.endpoint, rollout)
            nursery.start_soon(ask_until_broken, mine)
            await stuck.begun.wait()
        await stuck.gone.wait()
        nursery.cancel_scope.cancel()
    assert [turn.outcome for turn in rollout.trace] == ["refused"]


async def test_many_calls_that_are_cancelled_leave_no_slot_taken_and_no_connection_open() -> None:
    """httpx 0.28 loses places in its pool this way; the next calls must find theirs."""
    stuck_for_now = True

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        if stuck_for_now:
            await Stuck(3)(asked, stream)
        else:
            await answers(CHAT)(asked, stream)

    upstream_answer: Answer = answer
    async with staged(upstream_answer, CHAT, concurrency=20) as stage:
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(begin_to_read_chat, stage, number)
        stuck_for_now = False
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(ask_well, stage, number)
        limiter = stage.upstream._limiter
        while limiter.held or limiter.waiting:  # whoever has its answer may still wait for its last byte
            await trio.sleep(0.01)
        assert stage.provider.open <= 40
    while stage.provider.open:
        await trio.sleep(0.01)
    outcomes = [turn.outcome for turn in stage.rollout.trace]
    assert outcomes.count("abandoned") == 200
    assert outcomes.count("answered") == 40


async def begin_to_read_chat(stage: Stage, number: int) -> None:
    await begin_to_read(stage, CHAT, until=b"Hel", seed=number)  # no two the same: none repeats another


async def ask_well(stage: Stage, number: int) -> None:
    assert (await stage.ask(CHAT, stream=True, seed=number)).status_code == 200


async def test_a_cancelled_fetch_closes_the_connection() -> None:
    stuck = Stuck(0)
    requests: list[Exchange] = []

    async def keep(exchange: Exchange) -> None:
        requests.append(exchange)
        await exchange.respond("kept")

    async with staged(stuck, CHAT, handler=keep) as stage:
        await stage.ask(CHAT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.upstream.fetch, requests[0].request)
            await stuck.begun.wait()
            assert stage.provider.open == 1
            nursery.cancel_scope.cancel()
        await stuck.gone.wait()
        while stage.provider.open:
            await trio.sleep(0.01)
        assert len(stage.provider.asked) == 1


async def test_a_program_reads_the_events_and_leaves_when_it_likes() -> None:
    requests: list[Exchange] = []

    async def keep(exchange: Exchange) -> None:
        requests.append(exchange)
        await exchange.respond("kept")

    async with staged(answers(CHAT), CHAT, handler=keep) as stage:
        await stage.ask(MESSAGES)
        request = requests[0].request
        async with stage.upstream.open_response(request) as events:
            kinds = [type(event).__name__ async for event in events]
        assert (kinds[0], kinds[-1]) == ("ResponseStart", "ResponseEnd")
        async with stage.upstream.open_response(request) as events:
            assert type(await anext(aiter(events))).__name__ == "ResponseStart"
        response = await stage.upstream.fetch(request)
        assert (response.text, response.model, response.dialect) == ("Hello, world.", "m-1", CHAT)
