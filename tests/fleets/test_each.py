"""Functions that run in each worker of a fleet, and a fleet that is paused while weights change."""

from __future__ import annotations

import os
import signal
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.fleets import weights_work as work
from tests.fleets.engines import Make, every_engine, with_processes
from tests.upstream.engines import serve_engine
from triocept import UpstreamError
from triocept.fleets import InProcess, Outcome, WorkerStarted, open_fleet

UPSTREAM = attrgetter("upstream")


@every_engine
async def test_a_function_runs_once_in_each_worker_although_all_slots_are_taken(make: Make) -> None:
    async with serve_engine("vllm") as engine:
        async with open_fleet(make(), worker=partial(work.open_worker, engine.url)) as fleet:
            async with fleet.map(work.make_call, [f"t{number}" for number in range(4)]) as results:
                await engine.until(lambda: len(engine.generations) == 4)
                first = await fleet.each(work.count)
                assert await fleet.each(work.count) == dict.fromkeys(first, 2)
                assert set(first) == set(fleet.workers)
                assert set(first.values()) == {1}
                engine.rest.set()
                assert len([result async for result in results]) == 4


@with_processes
async def test_the_replacement_of_a_worker_that_dies_runs_the_function_too(
    make: Make, tmp_path: Path
) -> None:
    async with open_fleet(make(2), worker=partial(work.open_worker, "http://127.0.0.1:1/v1")) as fleet:
        before = await fleet.each(work.process_id)
        after = await fleet.each(partial(work.end_process, marker=str(tmp_path / "marker")))
        assert len(after) == len(before) == 2
        assert len(set(after.values()) & set(before.values())) == 1


@every_engine
async def test_the_error_of_a_function_is_raised_in_its_own_class(make: Make) -> None:
    async with open_fleet(make(), worker=partial(work.open_worker, "http://127.0.0.1:1/v1")) as fleet:
        with pytest.raises((KeyError, ExceptionGroup)) as raised:
            await fleet.each(work.fail)
        error = raised.value
        errors = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
        assert [type(each) for each in errors] == [KeyError] * len(fleet.workers)
        assert all("raised in " in each.__notes__[0] for each in errors)


@pytest.mark.parametrize("mode", ["keep", "wait", "abort"])
@every_engine
async def test_a_fleet_is_paused_with_one_call_and_no_task_is_lost(make: Make, mode: Any) -> None:
    async with serve_engine("vllm") as engine, trio.open_nursery() as nursery:
        async with open_fleet(make(), worker=partial(work.open_worker, engine.url)) as fleet:
            async with fleet.map(work.make_call, [f"t{number}" for number in range(8)]) as results:
                await engine.until(lambda: len(engine.generations) == 4)
                if mode == "wait":
                    nursery.start_soon(_release_when_held, engine, len(fleet.workers))
                async with fleet.paused(mode, upstreams=UPSTREAM) as pauses:
                    assert set(pauses) == set(fleet.workers)
                    assert {pause.mode for each in pauses.values() for pause in each} == {mode}
                    begun = list(engine.begun)
                    assert len(engine.generations) == (4 if mode == "keep" else 0)
                    engine.version = "w2"
                    await fleet.each(work.count)
                    assert engine.begun == begun
                    engine.rest.set()
                outcomes = {result.task: result.value async for result in results}
    assert len(outcomes) == 8
    for task, (text, start, end) in outcomes.items():
        versions = [word.rpartition(".")[2] for word in text.split()]
        assert len(versions) == 4
        assert (start, end) == (versions[0], versions[-1])
        begun = sorted(each for each in engine.begun if each.startswith(f"{task} "))
        assert begun in ([f"{task} w1"], [f"{task} w2"], [f"{task} w1", f"{task} w2"])
        assert len(begun) == 1 or mode == "abort"


async def _release_when_held(engine: Any, workers: int) -> None:
    """Let calls finish when each worker has begun its pause, and waits for them."""
    await engine.until(lambda: engine.routes.count("/openapi.json") == workers)
    engine.rest.set()


@with_processes
async def test_a_worker_that_dies_in_the_pause_is_replaced_and_gets_calls_after_it(make: Make) -> None:
    async with serve_engine("vllm") as engine:
        async with open_fleet(make(2), worker=partial(work.open_worker, engine.url)) as fleet:
            async with fleet.map(work.make_call, [f"t{number}" for number in range(4)]) as results:
                await engine.until(lambda: len(engine.generations) == 4)
                ids = await fleet.each(work.process_id)
                with fleet.events() as events:
                    async with fleet.paused(upstreams=UPSTREAM):
                        engine.version = "w2"
                        os.kill(next(iter(ids.values())), signal.SIGKILL)
                        async for event in events:
                            if isinstance(event, WorkerStarted):
                                break
                        await wait_all_tasks_blocked()
                        assert len(engine.begun) == 4
                        engine.rest.set()
                values = {result.task: result.value async for result in results}
    assert len(values) == 4
    assert all(len(text.split()) == 4 for text, _, _ in values.values())
    assert len(engine.begun) == 4 + 2  # those of the dead worker, again
    assert engine.routes.count("/resume") >= 2


async def test_a_pause_that_fails_in_a_worker_resumes_all_and_raises() -> None:
    async with serve_engine("vllm") as engine:
        async with open_fleet(InProcess(), worker=partial(work.open_worker, engine.url)) as fleet:
            engine.fail["/pause"] = b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"
            with pytest.raises(UpstreamError, match="POST /pause"):
                async with fleet.paused(upstreams=UPSTREAM):
                    pytest.fail("the body begins")
            assert engine.routes[-1] == "/resume"
            with pytest.raises(TypeError, match="not Endpoint"):
                async with fleet.paused(upstreams=work.no_upstream):
                    pytest.fail("the body begins")
            with pytest.raises(TypeError, match="pass upstreams="):
                async with fleet.paused():
                    pytest.fail("the body begins")
            engine.fail.clear()
            async with fleet.paused(upstreams=UPSTREAM):
                with pytest.raises(RuntimeError, match="paused already"):
                    async with fleet.paused(upstreams=UPSTREAM):
                        pytest.fail("the body begins")
            engine.rest.set()
            async with fleet.map(work.make_call, ["t"]) as results:
                (result,) = [result async for result in results]
            assert isinstance(result.outcome, Outcome.Value)
        with pytest.raises(RuntimeError, match="closed"):
            await fleet.each(work.count)


@every_engine
async def test_a_cancelled_pause_resumes_in_each_worker(make: Make) -> None:
    async with serve_engine("vllm") as engine:
        async with open_fleet(make(), worker=partial(work.open_worker, engine.url)) as fleet:
            with trio.CancelScope() as scope:
                async with fleet.paused(upstreams=UPSTREAM):
                    assert engine.paused
                    scope.cancel()
                    await trio.sleep_forever()
            assert not engine.paused
            engine.rest.set()
            async with fleet.map(work.make_call, ["a", "b"]) as results:
                assert len([result.value async for result in results]) == 2
