"""An actor that cannot be reached for a moment, or for good: by a mock clock, with an actor that does as it is told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

pytest.importorskip("ray", reason="pip install 'triocept[ray]'")

from ray.exceptions import ActorDiedError, ActorUnavailableError

from triocept.fleets import WorkerLost
from triocept.fleets.ray_worker import _Actor

GRACE = 20.0


class Handle:
    """A handle of an actor: each method that is called has a future, which a test fulfils, or a rule does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[object, ...]]] = []
        self.rules: dict[str, Callable[[], Any]] = {}
        self.open: dict[str, Future[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return Method(self, name)


class Method:
    def __init__(self, handle: Handle, name: str) -> None:
        self._handle = handle
        self._name = name

    def remote(self, *args: object) -> Method:
        self._handle.asked.append((self._name, args))
        return self

    def future(self) -> Future[Any]:
        future: Future[Any] = Future()
        rule = self._handle.rules.get(self._name)
        if rule is None:
            self._handle.open[self._name] = future
            return future
        try:
            future.set_result(rule())
        except Exception as exc:
            future.set_exception(exc)
        return future


def away() -> None:
    raise ActorUnavailableError("no route to it", b"0" * 16)


def dead() -> None:
    raise ActorDiedError


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """It jumps when nothing happens, in threads neither: an actor is killed in one."""
    autojump_clock.autojump_threshold = 0.05
    return autojump_clock


@pytest.fixture
def handle() -> Handle:
    return Handle()


@pytest.fixture
def worker(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> _Actor:
    worker = _Actor("worker 0", handle, GRACE)
    killed: list[object] = []
    monkeypatch.setattr(worker, "_ray", type("Ray", (), {"kill": killed.append}))
    monkeypatch.setattr(worker, "killed", killed, raising=False)
    return worker


async def test_one_that_answers_again_has_ended_the_call_whose_answer_was_lost(
    worker: Any, handle: Handle, clock: MockClock
) -> None:
    told: list[bool] = []
    worker.changed = lambda: told.append(worker.alive)
    handle.rules = {"ping": away}

    async def call() -> None:
        with pytest.raises(WorkerLost, match="its answer did not arrive"):
            await worker.call(b"job")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        handle.open["call"].set_exception(ActorUnavailableError("no route to it", b"0" * 16))
        await trio.sleep(3)
        assert not worker.alive
        assert told == []
        handle.rules = {"ping": lambda: None, "wait_over": lambda: None}
    assert told == [True]
    assert ("wait_over", (1,)) in handle.asked
    assert worker.killed == []


async def test_one_that_does_not_answer_for_the_grace_is_killed(
    worker: Any, handle: Handle, clock: MockClock
) -> None:
    handle.rules = {"call": away, "ping": away}
    started = trio.current_time()
    with pytest.raises(WorkerLost, match="could not be reached for 20 s, so it was killed"):
        await worker.call(b"job")
    assert GRACE <= trio.current_time() - started < GRACE + 6
    assert worker.killed == [handle]
    await worker.wait_lost()


async def test_one_that_is_found_dead_is_lost_at_once(worker: Any, handle: Handle, clock: MockClock) -> None:
    handle.rules = {"call": away, "ping": dead}
    with pytest.raises(WorkerLost, match="died unexpectedly"):
        await worker.call(b"job")
    assert not worker.alive
    await worker.wait_lost()
    with pytest.raises(WorkerLost):
        await worker.call(b"another")


async def test_all_its_calls_end_when_it_is_known_to_be_dead(
    worker: Any, handle: Handle, clock: MockClock
) -> None:
    errors: list[str] = []

    async def call() -> None:
        try:
            await worker.call(b"job")
        except WorkerLost as exc:
            errors.append(exc.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call)
        await wait_all_tasks_blocked()
        handle.rules = {"live": dead}
        nursery.start_soon(worker.serve, None)
    assert len(errors) == 3


async def test_a_cancelled_call_is_waited_for_and_then_costs_the_worker_its_life(
    worker: Any, handle: Handle, clock: MockClock
) -> None:
    handle.rules = {"ping": dead, "cancel": lambda: None}
    with trio.move_on_after(1):
        await worker.call(b"job")
    assert trio.current_time() >= 1 + GRACE
    assert worker.killed == [handle]
