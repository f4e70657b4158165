"""The inside of a Ray actor, without Ray: asyncio here, trio's loop there."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fleets import work
from triocept.fleets import ray_bridge
from triocept.fleets.packing import Answer, Job, Pickled
from triocept.fleets.ray_bridge import Bridge

PACKING = Pickled()


def job_of(function: Any, task: object) -> bytes:
    return PACKING.pack(Job(PACKING.pack(function, "it"), task, 1), "it")


async def appears(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


def bridged(main: Callable[[Bridge], Awaitable[None]]) -> None:
    """Run `main` with a bridge, in half a minute."""

    async def run() -> None:
        bridge = Bridge()
        async with asyncio.timeout(30):
            assert await bridge.open([], PACKING.pack(None, "it")) == b""
            await main(bridge)
            await bridge.end()

    asyncio.run(run())
    for thread in threading.enumerate():
        if thread.name == "trio":
            thread.join(60)
            assert not thread.is_alive()


def test_a_call_has_its_answer() -> None:
    async def main(bridge: Bridge) -> None:
        answers = await asyncio.gather(*(bridge.call(n, job_of(work.double, n)) for n in range(20)))
        assert [PACKING.unpack(answer).value for answer in answers] == [2 * n for n in range(20)]
        await bridge.ping()

    bridged(main)


def test_a_cancelled_call_ends_with_nothing(tmp_path: Path) -> None:
    async def main(bridge: Bridge) -> None:
        note = tmp_path / "note"
        call = asyncio.create_task(bridge.call(1, job_of(work.note_and_wait, str(note))))
        await appears(note)
        bridge.cancel(1)
        assert await call == b""
        assert not note.exists()

    bridged(main)


def test_a_call_that_is_cancelled_before_it_comes_does_not_begin(tmp_path: Path) -> None:
    async def main(bridge: Bridge) -> None:
        note = tmp_path / "note"
        bridge.cancel(1)
        assert await bridge.call(1, job_of(work.note_and_wait, str(note))) == b""
        assert not note.exists()

    bridged(main)


def test_a_call_is_over_when_that_was_waited_for_though_nobody_hears_its_answer(tmp_path: Path) -> None:
    async def main(bridge: Bridge) -> None:
        note = tmp_path / "note"
        call = asyncio.create_task(bridge.call(1, job_of(work.note_and_wait, str(note))))
        await appears(note)
        call.cancel()
        await asyncio.wait([call])
        assert note.exists(), "Ray's loop has no say here"
        await bridge.wait_over(1)
        assert not note.exists()
        await bridge.wait_over(1)  # one that is over already

    bridged(main)


def test_what_runs_at_the_end_is_cancelled_and_ended(tmp_path: Path) -> None:
    note = tmp_path / "note"

    async def main(bridge: Bridge) -> None:
        asyncio.create_task(bridge.call(1, job_of(work.note_and_wait, str(note))))  # noqa: RUF006
        await appears(note)

    bridged(main)
    assert not note.exists()


def test_what_cannot_be_opened_says_why() -> None:
    async def main() -> bytes:
        return await Bridge().open([], PACKING.pack(work.open_nothing, "it"))

    failure = PACKING.unpack(asyncio.run(main()))
    assert isinstance(failure.error, work.Odd)
    assert "there is no such bench" in failure.traceback


def test_an_error_of_a_function_is_an_answer() -> None:
    async def main(bridge: Bridge) -> None:
        answer: Answer = PACKING.unpack(await bridge.call(1, job_of(work.raise_for, "odd")))
        assert isinstance(answer.failure.error, work.Odd)

    bridged(main)


def test_of_the_drivers_path_what_is_here_is_looked_in_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)

    async def main() -> None:
        bridge = Bridge()
        await bridge.open([str(tmp_path), str(tmp_path / "away"), before[-1]], PACKING.pack(None, "it"))
        await bridge.end()

    asyncio.run(main())
    assert sys.path == [*before, str(tmp_path)]


@pytest.mark.parametrize(("mine", "raylet", "may", "warned"), [
    (15, 0, True, False),
    (15, 0, False, True),
    (10, 10, False, False),
    (19, 10, False, True),
    (0, 0, False, False),
])  # fmt: skip
def test_a_worker_that_is_as_nice_as_its_raylet_is_not_warned_of(
    mine: int,
    raylet: int,
    may: bool,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nice = {0: mine, os.getppid(): raylet}

    def set_priority(which: int, who: int, value: int) -> None:
        if not may and value < nice[who]:
            raise PermissionError
        nice[who] = value

    monkeypatch.setattr(os, "getpriority", lambda which, who: nice[who])
    monkeypatch.setattr(os, "setpriority", set_priority)
    ray_bridge._set_niceness()
    assert ("RAY_worker_niceness=0" in caplog.text) == warned
    assert nice[0] == (mine if warned else raylet)
