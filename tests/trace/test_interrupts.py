"""A Ctrl-C while something is recorded: our recorders finish the line, and a user's are interrupted."""

import os
import signal
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.asking import ask
from tests.interrupting import interrupt_at
from triocept import Exchange, JSONLRecorder, Rollout, Trace, Turn, serve_endpoint
from triocept._trace import linefile
from triocept._trace.entries import Opening
from triocept._trace.linefile import LineFile
from triocept._trace.runlines import RunLines
from triocept.traces import DirectoryRecorder, Recorder, RecorderGroup, check, read_traces

STRIDE = 4
"""Lines from one interrupt to the next; `nox -s interrupts` takes each."""


def in_trace(file: str) -> bool:
    return f"{os.sep}triocept{os.sep}_trace{os.sep}" in file


def is_line_file(file: str) -> bool:
    return file == linefile.__file__


class Fails(Recorder):
    """A user's recorder, in which a Ctrl-C arrives while it works and does not wait."""

    def __init__(self) -> None:
        self.went_on = False

    async def record(self, turn: Turn) -> None:
        signal.raise_signal(signal.SIGINT)
        self.went_on = True

    async def seal(self, trace: Trace) -> None: ...

    async def aclose(self) -> None: ...


def interrupted(recorder: Recorder, step: int) -> bool:
    """Make three calls, and interrupt the recording of the second one at this line; False: it has fewer lines."""

    async def answer(exchange: Exchange) -> None:
        if exchange.request.messages[-1].text == "second":
            interrupt_at(step, in_trace)
        await exchange.respond("yes")

    async def main() -> None:
        async with serve_endpoint(recorder=recorder) as endpoint, endpoint.open_rollout(answer) as rollout:
            for text in ("first", "second", "third"):
                await ask(rollout, text)

    try:
        trio.run(main)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize("kind", ["file", "group", "directory"])
def test_a_ctrl_c_at_any_line_of_a_turns_recording_leaves_a_whole_file(kind: str, tmp_path: Path) -> None:
    step, goes_on = 1, True
    while goes_on:
        file = tmp_path / f"{step}.jsonl"
        recorder: Recorder = JSONLRecorder(file)
        if kind == "group":
            recorder = RecorderGroup([recorder])
        elif kind == "directory":
            recorder = DirectoryRecorder(tmp_path / str(step))
        goes_on = interrupted(recorder, step)
        if kind == "directory":
            (file,) = (tmp_path / str(step)).glob("*.jsonl")
        assert check(file).complete, f"at line {step}"
        (trace,) = read_traces(file)
        assert trace.sealed
        assert len(trace) >= 2
        step += STRIDE
    assert step > 60


def test_a_users_recorder_is_interrupted_where_it_is_alone_or_in_a_group(tmp_path: Path) -> None:
    for others in ([], [JSONLRecorder(tmp_path / "t.jsonl")]):
        recorder = Fails()

        async def answer(exchange: Exchange) -> None:
            await exchange.respond("yes")

        async def main() -> None:
            async with (
                serve_endpoint(recorder=RecorderGroup([*others, recorder])) as endpoint,  # noqa: B023
                endpoint.open_rollout(answer) as rollout,
            ):
                await ask(rollout, "hi")

        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
        assert not recorder.went_on


def test_a_ctrl_c_while_a_turn_waits_for_another_ones_recording_loses_no_turn() -> None:
    class Slow(Fails):
        """Holds up the first turn until the second has waited, and was interrupted."""

        async def record(self, turn: Turn) -> None:
            recorded.append(turn.request.messages[-1].text)
            if len(recorded) == 1:
                begun.set()
                await interrupted.wait()

    recorded: list[str] = []
    begun, interrupted = trio.Event(), trio.Event()

    async def interrupt(rollout: Rollout) -> None:
        while not rollout._core.records._lock.statistics().tasks_waiting:
            await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGINT)  # in this task, which is not the main one: it arrives there
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked(0.01)
        interrupted.set()

    async def main() -> None:
        async with serve_endpoint(recorder=Slow()) as endpoint, endpoint.open_rollout() as rollout:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, rollout, "first")
                nursery.start_soon((await anext(rollout)).respond, "yes")
                await begun.wait()
                nursery.start_soon(ask, rollout, "second")
                exchange = await anext(rollout)
                nursery.start_soon(trio.lowlevel.enable_ki_protection(interrupt), rollout)
                await exchange.respond("yes")

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.group_contains(KeyboardInterrupt)
    assert recorded == ["first", "second"]


def test_a_ctrl_c_at_any_line_of_the_opening_of_a_file_leaves_no_descriptor(tmp_path: Path) -> None:
    def interrupted(step: int) -> bool:
        file = LineFile(tmp_path / "t.jsonl")
        seen = interrupt_at(step, is_line_file)
        try:
            file.open()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
            file.close()
        return seen() >= step

    before, step = len(os.listdir("/proc/self/fd")), 1
    while interrupted(step):
        step += 1
        assert len(os.listdir("/proc/self/fd")) == before
    assert step > 10


async def test_a_directory_holds_no_descriptor_of_a_rollout_whose_seal_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, opening = DirectoryRecorder(tmp_path), Opening(rollout="r", run="run", at=1.0)
    await recorder.record_entry(opening)
    before = len(os.listdir("/proc/self/fd"))

    def fails(*given: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(RunLines, "seal", fails)
    with pytest.raises(ValueError, match="no"):
        await recorder.seal(Trace("r", run="run"))
    assert len(os.listdir("/proc/self/fd")) == before - 1
