"""At most so many calls at once, fair between rollouts, and nothing is lost by cancellation. No sockets."""

import pytest
import trio
import trio.testing

from triocept import UpstreamError
from triocept._upstream.limiter import Limiter
from triocept._upstream.patience import retry_pause, wait_of
from triocept.errors import ContextLengthError


async def test_no_more_hold_a_slot_than_there_are(autojump_clock: trio.testing.MockClock) -> None:
    limiter = Limiter(3)
    most = 0

    async def hold(number: int) -> None:
        nonlocal most
        async with limiter.slot(f"r{number % 4}"):
            most = max(most, limiter.held)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(hold, number)
    assert (most, limiter.held, limiter.waiting) == (3, 0, 0)
    assert trio.current_time() == pytest.approx(4, abs=0.1)


async def test_rollouts_take_turns_however_many_calls_each_has(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limiter = Limiter(1)
    order: list[str] = []

    async def hold(rollout: str) -> None:
        async with limiter.slot(rollout):
            order.append(rollout)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for rollout in ("greedy",) * 5 + ("modest",) * 2 + ("late",):
            nursery.start_soon(hold, rollout)
            await trio.testing.wait_all_tasks_blocked()
    assert order == ["greedy", "greedy", "modest", "late", "greedy", "modest", "greedy", "greedy"]


async def test_whoever_is_cancelled_while_waiting_has_taken_nothing() -> None:
    limiter = Limiter(1)
    async with trio.open_nursery() as nursery, limiter.slot("a"):
        for _ in range(3):
            nursery.start_soon(_hold, limiter)
        await trio.testing.wait_all_tasks_blocked()
        assert limiter.waiting == 3
        nursery.cancel_scope.cancel()
        with pytest.raises(trio.Cancelled):
            await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert limiter.waiting == 0
    assert limiter.held == 0


async def test_a_slot_that_is_given_to_somebody_who_is_just_cancelled_goes_on_to_the_next() -> None:
    limiter = Limiter(1)
    took: list[str] = []
    scope = trio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await _hold(limiter)

    async def patient() -> None:
        async with limiter.slot("b"):
            took.append("b")

    async with trio.open_nursery() as nursery:
        async with limiter.slot("a"):
            nursery.start_soon(cancelled)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(patient)
            await trio.testing.wait_all_tasks_blocked()
        scope.cancel()  # it has its slot already, and has not run yet
    assert took == ["b"]
    assert limiter.held == 0


async def _hold(limiter: Limiter) -> None:
    async with limiter.slot("a"):
        await trio.sleep_forever()


def failed(status: int = 500, **headers: str) -> UpstreamError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return UpstreamError("x", status=status, headers=named)


def test_pauses_grow_and_are_never_longer_than_a_minute() -> None:
    pauses = [retry_pause(failed(), tries, 20) for tries in range(1, 22)]
    assert pauses[-1] is None
    known = [pause for pause in pauses if pause is not None]
    assert len(known) == 20
    for number, pause in enumerate(known):
        whole = min(0.5 * 2**number, 60)
        assert 0.75 * whole <= pause <= whole


def test_the_providers_own_wait_is_waited_in_each_of_its_forms() -> None:
    assert wait_of(failed(429, retry_after="1.5")) == 1.5
    assert wait_of(failed(429, retry_after_ms="250", retry_after="9")) == 0.25
    assert wait_of(failed(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")) == 0
    assert wait_of(failed(429, retry_after="soon")) is None
    assert wait_of(failed(429)) is None


def test_what_no_retry_can_help_is_not_retried() -> None:
    assert retry_pause(failed(400), 1, 3) is None
    assert retry_pause(failed(501), 1, 3) is None
    assert retry_pause(failed(x_should_retry="false"), 1, 3) is None
    assert retry_pause(failed(400, x_should_retry="true"), 1, 3) is not None
    assert retry_pause(ContextLengthError("x", status=500), 1, 3) is None
    assert retry_pause(UpstreamError("x", status=429, code="insufficient_quota"), 1, 3) is None
    assert retry_pause(failed(), 1, 0) is None
