"""A loop of asyncio in a thread: it ends with its context, however that ends."""

import asyncio
import socket
import threading

import pytest
import trio

from tests.programs import run_python
from triocept._tunnel.asyncio_thread import open_asyncio


async def test_a_start_that_is_cancelled_before_the_loop_runs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread was left running then, and what had started it waited for ever."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    real = asyncio.new_event_loop

    def make_late() -> asyncio.AbstractEventLoop:
        begun.set()
        assert go_on.wait(60)
        loop = real()
        close = loop.close
        monkeypatch.setattr(loop, "close", lambda: (close(), ended.set()))
        return loop

    monkeypatch.setattr(asyncio, "new_event_loop", make_late)
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
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_asyncio():
            raise AssertionError("it was cancelled before")
    assert scope.cancelled_caught


async def test_a_loop_that_cannot_be_had_is_the_callers_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> asyncio.AbstractEventLoop:
        raise OSError("no descriptor is left")

    monkeypatch.setattr(asyncio, "new_event_loop", make)
    with pytest.raises(OSError, match="no descriptor is left"):
        async with open_asyncio():
            raise AssertionError("there is none")


async def test_a_body_that_fails_ends_the_thread() -> None:
    async def call() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    with pytest.raises(ZeroDivisionError):
        async with open_asyncio() as thread:
            assert await thread.call(call) != threading.current_thread().name
            raise ZeroDivisionError


async def test_a_look_up_that_nobody_answers_does_not_keep_the_thread_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio looks names up in a pool of threads, and `asyncio.run` waits up to 300 s for those."""
    asked, go_on = threading.Event(), threading.Event()

    def look_up(*args: object, **kwargs: object) -> list[object]:
        asked.set()
        assert go_on.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def call() -> None:
        await asyncio.get_running_loop().getaddrinfo("api.example", 443)

    try:
        with trio.CancelScope() as scope:
            async with open_asyncio() as thread, trio.open_nursery() as nursery:
                nursery.start_soon(thread.call, call)
                await trio.to_thread.run_sync(asked.wait, 10)
                scope.cancel()
        assert not go_on.is_set()
    finally:
        go_on.set()


async def test_what_asyncio_does_in_threads_is_done() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async with open_asyncio() as thread:
        assert await thread.call(lambda: asyncio.to_thread(max, 1, 2)) == 2
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: asyncio.to_thread(fail))


async def test_a_function_that_fails_before_it_gives_a_coroutine_is_heard() -> None:
    async def call() -> None: ...

    def fail() -> object:
        raise ZeroDivisionError

    async with open_asyncio() as thread:
        with pytest.raises(ZeroDivisionError):
            await thread.call(fail)  # type: ignore[arg-type]
        await thread.call(call)


async def test_what_a_call_leaves_behind_ends_with_the_loop() -> None:
    left: list[asyncio.Task[bool]] = []

    async def call() -> None:
        left.append(asyncio.create_task(asyncio.Event().wait()))

    async with open_asyncio() as thread:
        await thread.call(call)
    assert left[0].cancelled()


INTERRUPT_AT_LINES = """
    import asyncio, sys, types
    import trio
    from tests.interrupting import interrupt_at

    class Tunnel:
        tunnel_id = _process = _config_file = None
        is_gone, is_running, recent_output = False, True, ()
        def __init__(self, **settings): ...
        async def start(self):
            await asyncio.sleep(0.001)
            self.tunnel_id = "t"
            return "https://x.example"
        async def stop(self):
            await asyncio.sleep(0.001)

    class TunnelError(Exception): ...

    sys.modules["prime_tunnel"] = types.SimpleNamespace(
        Tunnel=Tunnel, TunnelError=TunnelError, TunnelAuthError=TunnelError,
        TunnelLimitReachedError=TunnelError, BinaryDownloadError=TunnelError,
    )
    from triocept._tunnel.asyncio_thread import open_asyncio
    from triocept.tunnels import PrimeTunnel

    async def alone():
        async with open_asyncio() as thread:
            await thread.call(lambda: asyncio.sleep(0.001))

    async def prime():
        async with PrimeTunnel().open(1):
            pass

    def is_ours(name):
        return name.endswith(("triocept/_tunnel/asyncio_thread.py", "triocept/_tunnel/prime.py"))

    def main(life, every):
        step, interrupted = 1, 0
        while True:
            print(life.__name__, step, flush=True)
            seen = interrupt_at(step, is_ours)
            try:
                trio.run(life)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                sys.settrace(None)
            if seen() < step:
                break
            step += every
        assert interrupted > 15, interrupted

    main(alone, 1)
    main(prime, 7)
    print("ended")
"""


def test_a_ctrl_c_at_a_line_of_the_thread_or_of_a_prime_tunnel_ends_the_program() -> None:
    """It left the thread running at some, and the program waited for it for ever."""
    done = run_python(INTERRUPT_AT_LINES)
    assert done.stdout.endswith("ended\n"), (done.stdout + done.stderr)[-2000:]
