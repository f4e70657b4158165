"""Calls that are on their way to somebody who takes them, at the moment at which that one takes no more: none of them
waits until its rollout ends."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.unserved import opened, outcome
from triocept import Exchange, Limits, Rollout, Trace, Turn
from triocept._rollout.answer import Subscription
from triocept._rollout.asking import Asking, request_of
from triocept._rollout.outcome import Answered
from triocept._rollout.rollout import core_of_rollout, report_fault
from triocept._util.failures import leaves
from triocept.testing import open_rollout
from triocept.traces import Entry, Intent

SHIELD = partial(trio.fail_after, 3, shield=True)
blocked = trio.testing.wait_all_tasks_blocked


class Held:
    """A recorder that takes its time for a call that is about to be handed over, if that asks "held"; and for its
    turn, if it asks "slow"."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.begun, self.go = trio.Event(), trio.Event()
        self.fault = fault

    async def record_entry(self, entry: Entry) -> None:
        if isinstance(entry, Intent) and entry.request.messages[-1].text == "held":
            await self._hold()

    async def record(self, turn: Turn) -> None:
        if turn.request.messages[-1].text == "slow":
            await self._hold()

    async def _hold(self) -> None:
        self.begun.set()
        with trio.fail_after(30):
            await self.go.wait()
        if self.fault is not None:
            raise self.fault

    async def seal(self, trace: Trace) -> None:
        pass

    async def aclose(self) -> None:
        pass


class Asked:
    """A handler that says what it is asked; it waits at "wait", and fails at "fail" and at "slow"."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.go = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        text = exchange.request.messages[-1].text
        self.texts.append(text)
        if "wait" in text.split():
            await self.go.wait()
        if text in ("fail", "slow", "wait and fail"):
            raise KeyError("boom")
        await exchange.respond("ok")


class Calls:
    """What became of calls, by what they ask."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.said: dict[str, str] = {}

    async def start(self, rollout: Rollout, text: str) -> None:
        self._nursery.start_soon(self._call, rollout, text)
        await blocked()

    async def _call(self, rollout: Rollout, text: str) -> None:
        self.said[text] = await outcome(rollout, text)


# A limit that is reached while a call within it is being recorded

Taker = Callable[[Rollout], Awaitable[None]]


async def serves(rollout: Rollout) -> None:
    await rollout.serve(Asked())


async def serves_one_at_a_time(rollout: Rollout) -> None:
    await rollout.serve(Asked(), concurrency=1)


async def serves_twice(rollout: Rollout) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serves, rollout)
        nursery.start_soon(serves, rollout)


async def loops(rollout: Rollout) -> None:
    async for exchange in rollout:
        await exchange.respond("ok")


async def loops_twice(rollout: Rollout) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loops, rollout)
        nursery.start_soon(loops, rollout)


TAKERS: list[Taker] = [serves, serves_one_at_a_time, serves_twice, loops, loops_twice]


@pytest.mark.parametrize("of_the_parent", [False, True])
@pytest.mark.parametrize("take", [None, *TAKERS])
async def test_a_call_within_a_limit_is_answered_though_the_limit_is_reached_while_it_is_recorded(
    take: Taker | None, of_the_parent: bool
) -> None:
    recorder = Held()
    handler = Asked() if take is None else None
    async with opened(
        None if of_the_parent else handler, Limits(turns=1), recorder=recorder, within=30
    ) as rollout:
        opened_child = rollout.open_child(handler) if of_the_parent else trio.open_nursery()
        async with opened_child as child, trio.open_nursery() as takers:
            here: Any = child if of_the_parent else rollout
            if take is not None:
                takers.start_soon(take, here)
            async with trio.open_nursery() as nursery:
                calls = Calls(nursery)
                await calls.start(here, "held")
                await recorder.begun.wait()
                await calls.start(here, "too many")
                recorder.go.set()
    assert calls.said == {"held": "answered", "too many": "404"}


@pytest.mark.parametrize("take", TAKERS)
async def test_whoever_takes_calls_ends_when_the_last_on_its_way_cannot_be_recorded(take: Taker) -> None:
    recorder, ended = Held(OSError(28, "no space left on device")), trio.Event()

    async def run() -> None:
        with SHIELD():
            await take(rollout)
        ended.set()

    with pytest.raises(OSError, match="no space"):
        async with opened(limits=Limits(turns=1), recorder=recorder, on_fault="stay", within=30) as rollout:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                calls = Calls(nursery)
                await calls.start(rollout, "held")
                await calls.start(rollout, "too many")
                assert not ended.is_set()
                recorder.go.set()
                await ended.wait()
    assert calls.said == {"held": "500", "too many": "404"}


# A service that ends while another is at work, or before one is


@pytest.mark.parametrize("concurrency", [None, 1, 2])
@pytest.mark.parametrize("of_the_other", [None, 1])
async def test_what_comes_while_a_services_fault_is_recorded_is_anothers(
    concurrency: int | None, of_the_other: int | None
) -> None:
    recorder, first, other = Held(), Asked(), Asked()

    async def serve() -> None:
        with pytest.raises(KeyError, match="boom"):
            await rollout.serve(first, concurrency=concurrency)

    async with opened(recorder=recorder, within=30) as rollout, trio.open_nursery() as nursery:
        calls = Calls(nursery)
        nursery.start_soon(serve)
        await blocked()
        await calls.start(rollout, "before")  # so that a task of the first is idle
        await calls.start(rollout, "slow")
        nursery.start_soon(partial(rollout.serve, other, concurrency=of_the_other))
        await blocked()
        for number in range(4):
            await calls.start(rollout, f"meanwhile {number}")
        answered = dict(calls.said)
        recorder.go.set()
        await blocked()
        await calls.start(rollout, "later")
        await rollout.stop("enough")
    assert first.texts == ["before", "slow"]
    assert other.texts == [*(f"meanwhile {number}" for number in range(4)), "later"]
    assert answered == {"before": "answered"}, "nothing is answered before the turn before it is recorded"
    assert calls.said == {"slow": "500", **dict.fromkeys(["before", *other.texts], "answered")}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("concurrency", [None, 1])
@pytest.mark.parametrize("beside", [False, True])
async def test_a_call_that_comes_as_a_service_is_cancelled_is_the_next_ones(
    beside: bool, concurrency: int | None, idle: bool, after: bool
) -> None:
    """Before the service's tasks have heard of it: in the same turn of the event loop, before the call or after."""
    cancelled, next_one, scope, asking = Asked(), Asked(), trio.CancelScope(), Asking()

    async def serve() -> None:
        with scope:
            await rollout.serve(cancelled, concurrency=concurrency)

    async def deliver(subscription: Subscription) -> None:
        scope.cancel()
        await subscription.follow(asking)

    async def call() -> None:
        if not after:
            scope.cancel()
        core = core_of_rollout(rollout)
        await core.answer_call(request_of("on its way", "m"), deliver, raw=None, headers={})

    async with opened(within=30) as rollout, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await blocked()
        if idle:
            assert await outcome(rollout, "before") == "answered"
        if beside:
            nursery.start_soon(rollout.serve, next_one)
            await blocked()
        nursery.start_soon(call)
        await blocked()
        if not beside:
            nursery.start_soon(rollout.serve, next_one)
            await blocked()
        await rollout.stop("enough")
    assert isinstance(asking.outcome, Answered)
    assert cancelled.texts == ["before"] * idle
    assert next_one.texts == ["on its way"]


@pytest.mark.parametrize("other", TAKERS)
async def test_where_one_fails_and_its_nursery_cancels_the_others_nobody_waits(other: Taker) -> None:
    """For its agent, that is: the body waits for it, behind a shield."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with opened(within=30) as rollout, trio.open_nursery() as services:
            services.start_soon(other, rollout)
            await blocked()
            services.start_soon(rollout.serve, Asked())
            await blocked()
            with SHIELD():
                assert await outcome(rollout, "fail") == "500"
                async with trio.open_nursery() as nursery:
                    await Calls(nursery).start(rollout, "perhaps another's")
                assert await outcome(rollout, "later") == "500"
    assert [type(error) for error in leaves(caught.value)] == [KeyError]


async def test_nor_where_the_other_has_begun_while_the_fault_was_being_recorded() -> None:
    """It is cancelled because of that all the same: whoever called the first hears of it once it is recorded."""
    recorder = Held()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with opened(recorder=recorder, within=30) as rollout, trio.open_nursery() as services:
            services.start_soon(rollout.serve, Asked())
            await blocked()
            with SHIELD():
                async with trio.open_nursery() as nursery:
                    calls = Calls(nursery)
                    await calls.start(rollout, "slow")
                    services.start_soon(rollout.serve, Asked())
                    await blocked()
                    await calls.start(rollout, "wait")
                    recorder.go.set()
                    await blocked()
                    await calls.start(rollout, "later")
    assert calls.said == {"slow": "500", "wait": "500", "later": "500"}
    assert [type(error) for error in leaves(caught.value)] == [KeyError]


async def test_nor_where_the_other_begins_in_a_scope_that_the_fault_has_cancelled_already() -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with opened(within=30) as rollout, trio.open_nursery() as services:
            services.start_soon(rollout.serve, Asked())
            await blocked()
            with SHIELD():
                async with trio.open_nursery() as nursery:
                    calls = Calls(nursery)
                    await calls.start(rollout, "fail")
                    services.start_soon(rollout.serve, Asked())
                    await blocked()
                    await calls.start(rollout, "later")
    assert calls.said == {"fail": "500", "later": "500"}
    assert [type(error) for error in leaves(caught.value)] == [KeyError]


async def test_what_such_a_service_was_at_work_on_is_refused_too() -> None:
    other = Asked()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with opened(within=30) as rollout, trio.open_nursery() as services:
            services.start_soon(partial(rollout.serve, other, concurrency=1))
            with SHIELD():
                async with trio.open_nursery() as nursery:
                    calls = Calls(nursery)
                    await calls.start(rollout, "wait")
                    await calls.start(rollout, "waits in line")
                    services.start_soon(rollout.serve, Asked())
                    await blocked()
                    await calls.start(rollout, "fail")
    assert calls.said == {"wait": "500", "waits in line": "answered", "fail": "500"}
    assert other.texts == ["wait"]
    assert [type(error) for error in leaves(caught.value)] == [KeyError]


@pytest.mark.parametrize("limits", [None, Limits(turns=1)])
async def test_what_a_service_beside_a_handler_was_at_work_on_is_refused_if_a_fault_cancels_the_service(
    limits: Limits | None,
) -> None:
    """The handler goes on, and has not got that call. The limit: the service has ended, but for that call."""
    with pytest.raises(KeyError, match="boom"):
        async with (
            open_rollout(Asked(), concurrency=1, limits=limits) as rollout,
            trio.open_nursery() as services,
        ):
            services.start_soon(rollout.serve, Asked())
            await blocked()
            with SHIELD():
                async with trio.open_nursery() as nursery:
                    calls = Calls(nursery)
                    await calls.start(rollout, "wait")
                    if limits is not None:
                        await calls.start(rollout, "too many")
                    assert report_fault(rollout, KeyError("boom"))
    assert calls.said == {"wait": "500"} | ({"too many": "404"} if limits else {})


@pytest.mark.parametrize("limits", [None, Limits(turns=2)])
async def test_what_a_service_was_at_work_on_is_refused_though_a_limit_has_ended_it_before_another_failed(
    limits: Limits | None,
) -> None:
    failing, at_work = Asked(), Asked()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with opened(None, limits, within=30) as rollout, trio.open_nursery() as services:
            services.start_soon(partial(rollout.serve, at_work, concurrency=1))
            with SHIELD():
                async with trio.open_nursery() as nursery:
                    calls = Calls(nursery)
                    await calls.start(rollout, "wait")
                    services.start_soon(rollout.serve, failing)
                    await blocked()
                    await calls.start(rollout, "wait and fail")
                    if limits is not None:
                        await calls.start(rollout, "too many")
                    failing.go.set()
    assert [type(error) for error in leaves(caught.value)] == [KeyError]
    assert calls.said == {"wait": "500", "wait and fail": "500"} | ({"too many": "404"} if limits else {})
    assert (at_work.texts, failing.texts) == (["wait"], ["wait and fail"])


# A child whose body answers, and is cancelled with its parent's


@pytest.mark.parametrize("generations", [1, 2])
@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("form", ["handler", "serve", "two serve", "a function"])
async def test_a_child_whose_body_answered_refuses_once_its_parents_fault_has_cancelled_that(
    form: str, take: Taker, generations: int
) -> None:
    said: list[str] = []
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - what is in it stands below
        async with (
            opened(Asked() if form == "handler" else None, within=30) as parent,
            trio.open_nursery() as services,
            AsyncExitStack() as stack,
        ):
            for _ in range({"serve": 1, "two serve": 2}.get(form, 0)):
                services.start_soon(parent.serve, Asked())
            await blocked()
            child = parent
            for _ in range(generations):
                child = await stack.enter_async_context(child.open_child())
            async with trio.open_nursery() as takers:
                takers.start_soon(take, child)
                with SHIELD():
                    said.append(await outcome(child, "before"))
                    if form == "a function":
                        assert report_fault(parent, KeyError("boom"))
                    else:
                        assert await outcome(parent, "fail") == "500"
                    await blocked()
                    said += [await outcome(child, text) for text in ("later", "and later")]
    assert said == ["answered", "500", "500"]
    assert [type(error) for error in leaves(caught.value)] == [KeyError]


async def test_what_the_loop_of_such_a_child_had_taken_is_refused() -> None:
    async def hold() -> None:
        async for _ in child:
            await trio.sleep_forever()

    with pytest.raises(KeyError, match="boom"):
        async with opened(Asked(), within=30) as parent, parent.open_child() as child:
            async with trio.open_nursery() as takers:
                takers.start_soon(hold)
                with SHIELD():
                    async with trio.open_nursery() as nursery:
                        calls = Calls(nursery)
                        await calls.start(child, "taken")
                        await calls.start(child, "waits")
                        await calls.start(parent, "fail")
    assert calls.said == {"taken": "500", "waits": "500", "fail": "500"}


async def test_a_child_whose_body_is_not_cancelled_or_that_has_a_handler_goes_on() -> None:
    with pytest.raises(KeyError, match="boom"):
        async with opened(Asked(), within=30) as parent, parent.open_child(Asked()) as answered:
            with SHIELD():
                async with parent.open_child() as behind, trio.open_nursery() as nursery:
                    nursery.start_soon(loops, behind)
                    assert await outcome(parent, "fail") == "500"
                    assert await outcome(behind, "later") == "answered"
                    assert await outcome(answered, "later") == "answered"
                    await behind.stop("enough")


async def test_a_child_that_its_program_cancels_has_no_fault() -> None:
    async with opened(Asked(), within=30) as parent:
        with trio.CancelScope() as scope:
            async with parent.open_child() as child:
                with SHIELD():
                    async with trio.open_nursery() as agents:
                        calls = Calls(agents)
                        await calls.start(child, "before")
                        scope.cancel()
                        await calls.start(child, "later")
                        assert calls.said == {}
                        await child.stop("enough")
        assert calls.said == {"before": "404", "later": "404"}
