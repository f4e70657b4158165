"""A disk that is full for a moment, at whatever byte: what is said to be recorded afterwards can be read."""

import errno
import os
from pathlib import Path

import pytest

from tests.trace.telling import AS_RECORDED, said
from tests.trace.test_proof import names, put, read, run, write
from triocept import JSONLRecorder, Request, Tool, Trace, Turn
from triocept._trace.trace import TraceWriter
from triocept.traces import Entry, Intent, check

TRACE = Trace("r", run="n")


def request(*texts: str) -> Request:
    return AS_RECORDED(
        Request(dialect="openai_chat", model="m", messages=said(*texts), tools=(Tool(name=texts[-1]),))
    )


def intent(call: str, asked: Request) -> Intent:
    return Intent(id=call, rollout="r", run="n", number=0, at=1.0, dialect="openai_chat", request=asked)


def failed(call: str, asked: Request) -> Turn:
    return Turn(
        id=call,
        rollout="r",
        run="n",
        number=int(call[1:]),
        dialect="openai_chat",
        request=asked,
        outcome="failed",
        started_at=1.0,
        duration=0.0,
    )


FIRST, SECOND, OTHER = request("a", "b"), request("a", "b", "c", "a"), request("a", "d")
CALLS: list[Entry | Turn] = [
    intent("c0", FIRST),
    failed("c0", FIRST),
    intent("c1", SECOND),
    intent("c2", OTHER),
    failed("c1", SECOND),
    failed("c2", OTHER),
]


def size_of(entries: list[Entry | Turn], folder: Path) -> int:
    """Bytes."""
    write(folder / "measured.jsonl", [*entries])
    return (folder / "measured.jsonl").stat().st_size


@pytest.mark.parametrize("which", [0, 2, 3])
def test_a_call_that_could_not_be_written_down_takes_nothing_from_the_next_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    before = size_of(CALLS[:which], tmp_path) if which else 0
    (tmp_path / "measured.jsonl").unlink(missing_ok=True)
    wanted = size_of(CALLS[: which + 1], tmp_path) - before
    for room in range(0, wanted - 1, 23):
        file = tmp_path / f"{room}.jsonl"
        run_with_room(file, which, room, monkeypatch)
        report = check(file)
        assert set(names(report)) <= {"unreadable_line"}, room
        (trace,) = read(file)
        assert {one.id: one.request for one in trace} == {"c0": FIRST, "c1": SECOND, "c2": OTHER}


def run_with_room(file: Path, which: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write all, and that one where there is room for so many bytes of it."""
    real_write, left = os.write, [room]

    def write_some(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real_write(fd, data[: left[0]])
        left[0] -= written
        return written

    async def main() -> None:
        recorder = JSONLRecorder(file)
        for number, entry in enumerate(CALLS):
            if number == which:
                with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
                    patched.setattr("triocept._trace.linefile.os.write", write_some)
                    await put(recorder, entry)
            else:
                await put(recorder, entry)
        trace = Trace("r", run="n")
        for entry in CALLS:
            if isinstance(entry, Turn):
                TraceWriter(trace).add(entry)
        await recorder.seal(trace)

    run(main)
