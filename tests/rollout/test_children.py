"""Children of a rollout: what becomes of one that is being opened while its parent ends, or goes elsewhere."""

import pytest
import trio
import trio.testing

from tests.asking import echo
from tests.slow_to_open import SlowToOpen
from triocept import Limits, RolloutClosed, serve_endpoint
from triocept.errors import LimitReached


@pytest.mark.parametrize("shielded", [False, True])
@pytest.mark.parametrize("end", ["close", "stop", "a limit", "time"])
async def test_a_child_that_is_being_opened_when_its_parent_ends_has_no_body(
    end: str, shielded: bool
) -> None:
    async def open_child() -> None:
        with pytest.raises(RolloutClosed, match="parent"):
            async with parent.open_child(echo, recorder=recorder):
                raise AssertionError("it outlives its parent")
        gone.set()

    recorder, gone = SlowToOpen(shielded=shielded), trio.Event()
    limits = {"time": Limits(seconds=1.5), "a limit": Limits(turns=0)}.get(end)
    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        async with endpoint.open_rollout(echo, id="parent", limits=limits) as parent:
            nursery.start_soon(open_child)
            await recorder.opening.wait()
            match end:
                case "stop":
                    await parent.stop("enough")
                case "a limit":
                    with pytest.raises(LimitReached):
                        await parent.ask("hi")
                case "time":
                    await parent._core.ended.wait()
            if end != "close":
                recorder.go.set()
                await gone.wait()
            assert parent.trace.children == ()
        recorder.go.set()
        await gone.wait()
        assert parent.trace.children == ()
        assert not endpoint._registry
    if end == "close" and not shielded:
        assert not recorder.sealed, "it was never opened"


async def test_a_child_is_opened_where_its_parent_is_by_then() -> None:
    recorder = SlowToOpen()
    async with serve_endpoint() as first, serve_endpoint() as second, first.open_rollout() as parent:
        made = parent.open_child(echo, id="made")
        parent._core.rebind(second, second._registry, second._watcher)
        async with made as child:
            assert child._core in second._registry
            assert child._core not in first._registry

        async def open_another() -> None:
            async with parent.open_child(echo, id="child", recorder=recorder) as another:
                assert another.service_url("tools") == f"{first.url}/rollout/child/tools"
                assert another._core in first._registry
                assert another._core not in second._registry

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_another)
            await recorder.opening.wait()
            parent._core.rebind(first, first._registry, first._watcher)
            recorder.go.set()


async def test_a_parent_that_is_closing_gets_no_more_children() -> None:
    async def watch() -> None:
        await parent._core.closing.wait()
        with pytest.raises(RolloutClosed):
            parent.open_child()

    async with serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        async with endpoint.open_rollout() as parent, parent.open_child():
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_child_that_is_entered_when_its_parent_has_ended_opens_nothing() -> None:
    recorder = SlowToOpen(shielded=False)
    async with serve_endpoint() as endpoint, endpoint.open_rollout(echo) as parent:
        child = parent.open_child(echo, recorder=recorder)
        await parent.stop("enough")
        with pytest.raises(RolloutClosed, match="no child"):
            async with child:
                raise AssertionError("it outlives its parent")
    assert not recorder.opening.is_set()
