"""A loop of asyncio in a thread: it ends with its context, however that ends."""

import asyncio
import threading

import pytest
import trio

from triocept._tunnel.asyncio_thread import open_asyncio


async def test_a_start_that_is_cancelled_before_the_loop_runs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread was left running then, and what had started it waited for ever."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    real = asyncio.run

    def run_late(main: object) -> None:
        begun.set()
        assert go_on.wait(10)
        real(main)  # type: ignore[arg-type]
        ended.set()

    monkeypatch.setattr(asyncio, "run", run_late)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def start() -> None:
                async with open_asyncio():
                    raise AssertionError("it was cancelled before")

            nursery.start_soon(start)
            await trio.to_thread.run_sync(begun.wait, 10)
            nursery.cancel_scope.cancel()
            go_on.set()
    assert ended.is_set()


async def test_a_start_in_a_cancelled_scope_ends() -> None:
    with trio.fail_after(10), trio.CancelScope() as scope:
        scope.cancel()
        async with open_asyncio():
            raise AssertionError("it was cancelled before")
    assert scope.cancelled_caught


async def test_a_loop_that_cannot_be_had_is_the_callers_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(main: object) -> None:
        main.close()  # type: ignore[attr-defined]
        raise OSError("no descriptor is left")

    monkeypatch.setattr(asyncio, "run", run)
    with trio.fail_after(10), pytest.raises(OSError, match="no descriptor is left"):
        async with open_asyncio():
            raise AssertionError("there is none")


async def test_a_body_that_fails_ends_the_thread() -> None:
    async def call() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    with trio.fail_after(10):
        with pytest.raises(ZeroDivisionError):
            async with open_asyncio() as thread:
                assert await thread.call(call) != threading.current_thread().name
                raise ZeroDivisionError
