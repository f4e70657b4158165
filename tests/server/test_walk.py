"""A cancel, and a Ctrl-C, at every step of start, run and stop: nothing is left, and nothing hangs."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio

from tests.asking import ask
from tests.programs import ROOT, run_python
from triocept import Exchange, JSONLRecorder, Rollout, read_traces, serve_endpoint


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when the tasks of the run have made `step` steps."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.scope: trio.CancelScope | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.scope is None:
            return
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


async def answer(exchange: Exchange) -> None:
    async with exchange.open_stream() as stream:
        await stream.send("hel")
        await stream.send("lo")


async def life(instrument: CancelAt, recorder: JSONLRecorder) -> bool:
    """Start, answer, stop; whether it came to its end before it was cancelled."""
    with trio.CancelScope() as scope:
        instrument.scope = scope
        async with serve_endpoint(recorder=recorder, grace=0.1) as endpoint:
            async with endpoint.open_rollout(answer) as rollout, trio.open_nursery() as nursery:
                nursery.start_soon(ask, rollout)
                await ask_stream(rollout)
    return instrument.left > 0


async def ask_stream(rollout: Rollout) -> None:
    await ask(rollout, stream=True)


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


@pytest.mark.usefixtures("every_way")
def test_a_cancel_at_every_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    step, ended = 0, False
    before = open_descriptors()
    while not ended:
        step += 1
        instrument = CancelAt(step)
        file = tmp_path / f"{step}.jsonl"

        async def bounded(instrument: CancelAt = instrument, file: Path = file) -> bool:
            with trio.fail_after(15):
                return await life(instrument, JSONLRecorder(file))

        ended = trio.run(bounded, instruments=[instrument])
        assert len(open_descriptors()) <= len(before), f"a descriptor is left after a cancel at step {step}"
        if file.exists():
            assert all(trace.sealed for trace in read_traces(file)), f"step {step}"
    assert step > 80, "the walk went through start, run and stop"


INTERRUPT_AT_EVERY_STEP = """
    import os, signal, sys
    import trio
    from tests.server.test_walk import CancelAt, life, open_descriptors
    from triocept import JSONLRecorder

    class InterruptAt(CancelAt):
        def after_task_step(self, task):
            if self.scope is not None:
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)

    def main(file):
        step, before, interrupted = 0, open_descriptors(), 0
        while True:
            step += 1
            instrument = InterruptAt(step)

            async def bounded():
                with trio.fail_after(15):
                    return await life(instrument, JSONLRecorder(file))

            try:
                ended = trio.run(bounded, instruments=[instrument])
            except KeyboardInterrupt:
                interrupted += 1
                ended = False
            except BaseExceptionGroup as group:
                assert group.split(KeyboardInterrupt)[1] is None, group  # the body's own nursery wrapped it
                interrupted += 1
                ended = False
            assert len(open_descriptors()) <= len(before) + 1, step
            if ended and instrument.left > 0:
                break
            assert ended is False, f"the Ctrl-C at step {step} was swallowed"
        print("interrupted", interrupted)

    main(sys.argv[1])
"""


def test_a_ctrl_c_at_every_step_ends_the_program_and_leaves_nothing(tmp_path: Path) -> None:
    options = ("-W", "error::ResourceWarning")
    done = run_python(INTERRUPT_AT_EVERY_STEP, tmp_path / "t.jsonl", options=options, timeout=280)
    assert done.stdout.startswith("interrupted"), done.stderr
    assert "ResourceWarning" not in done.stderr


INTERRUPT_AT_LINES = """
    import sys
    import httpx2
    import trio
    from tests.asking import ask
    from tests.interrupting import interrupt_at
    from tests.server.test_walk import answer
    from triocept import JSONLRecorder, serve_endpoint, serve_pool

    OURS = "contexts failures _endpoint _pool life rollout exchange workers record_writer calls".split()
    FILES = tuple(f"{name}.py" for name in OURS)

    async def alone():
        async with serve_endpoint(recorder=JSONLRecorder(sys.argv[1])) as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                await ask(rollout)

    async def pool():
        async with serve_pool(recorder=JSONLRecorder(sys.argv[1])) as pool:
            async with pool.open_rollout() as rollout, trio.open_nursery() as nursery:
                nursery.start_soon(ask, rollout)
                async for exchange in rollout:
                    await exchange.respond("hello")
                    break

    async def agent():
        async with serve_endpoint() as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                async with rollout.open_child() as child:
                    await child.run_agent(["/bin/true"])

    def is_ours(name):
        return "triocept" in name and name.endswith(FILES)

    def is_interrupt(error):
        # alone, wrapped by the body's own nursery, or beside what the agent met whose connection it cut off
        if not isinstance(error, BaseExceptionGroup):
            return isinstance(error, KeyboardInterrupt)
        interrupts, others = error.split(KeyboardInterrupt)
        return interrupts is not None and (others is None or others.split(httpx2.TransportError)[1] is None)

    def main(life, every):
        async def bounded():
            with trio.fail_after(20):
                await life()
        step, interrupted = 1, 0
        while True:
            seen = interrupt_at(step, is_ours)
            try:
                trio.run(bounded)
            except BaseException as error:
                assert is_interrupt(error), (life, step, error)
                interrupted += 1
            finally:
                sys.settrace(None)
            if seen() < step:
                break
            step += every
        print(life.__name__, interrupted)
        assert interrupted > 20, interrupted

    for life, every in ((alone, 11), (pool, 17), (agent, 23)):
        main(life, every)
"""


def test_a_ctrl_c_at_a_line_of_ours_ends_the_program(tmp_path: Path) -> None:
    """Between two steps of a task, too: what has started something ends it."""
    done = run_python(INTERRUPT_AT_LINES, tmp_path / "t.jsonl", timeout=280)
    assert done.returncode == 0, done.stderr


BUSY = """
    import signal, sys, threading, time
    import trio
    from tests.asking import ask
    from triocept import serve_endpoint

    place = sys.argv[1]

    def be_busy(here):
        if here == place:
            threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
            while True:
                time.sleep(0.01)

    class Recorder:
        async def aopen(self):
            be_busy("aopen")
        async def record(self, turn):
            be_busy("record")
        async def seal(self, trace):
            be_busy("seal")
        async def aclose(self):
            be_busy("aclose")

    async def answer(exchange):
        be_busy("handler")
        await exchange.respond("hello")

    async def main():
        async with serve_endpoint(recorder=Recorder()) as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                await ask(rollout)

    trio.run(main)
"""


@pytest.mark.parametrize("place", ["handler", "aopen", "record", "seal", "aclose"])
def test_a_ctrl_c_ends_the_users_own_code_though_it_never_waits(place: str) -> None:
    done = run_python(BUSY, place)
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode in (1, 130, -signal.SIGINT)


STAGES = """
    import sys, trio, triocept
    from tests.asking import ask

    stage = sys.argv[1]

    def say():
        print(stage, flush=True)

    async def answer(exchange):
        if stage == "handler":
            say()
            await trio.sleep_forever()
        async with exchange.open_stream() as stream:
            await stream.send("one")
            if stage == "stream":
                say()
                await trio.sleep_forever()

    async def main():
        async with triocept.serve_endpoint() as endpoint:
            async with endpoint.open_rollout(answer) as rollout:
                if stage == "body":
                    say()
                    await trio.sleep_forever()
                if stage == "agent":
                    say()
                    await rollout.run_agent([sys.executable, "-c", "import time; time.sleep(600)"])
                await ask(rollout)

    trio.run(main)
"""


@pytest.mark.parametrize("stage", ["body", "handler", "stream", "agent"])
def test_a_real_ctrl_c_at_each_stage_ends_the_program(stage: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(STAGES), stage]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().strip() == stage
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert "Traceback" in errors
    assert process.returncode in (1, 130, -signal.SIGINT)
