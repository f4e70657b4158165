"""Directories of sealed traces, without a rollout."""

from pathlib import Path

import msgspec

from tests.trace.tokenized import Given, made
from triocept import JSONLRecorder, Trace
from triocept._trace.trace import TraceWriter


async def put(directory: Path, name: str, *, sealed: bool = True) -> None:
    """A rollout's trace, as a recorder leaves it."""
    path = directory / f"{name}.run.jsonl.open"
    recorder = JSONLRecorder(path)
    trace = Trace("r", run=name)
    turn = msgspec.structs.replace(made(0, Given([1], [2], answer=name)), run=name)
    await recorder.record(turn)
    writer = TraceWriter(trace)
    writer.add(turn)
    writer.seal()
    if sealed:
        await recorder.seal(trace)
    await recorder.aclose()
    path.rename(directory / f"{name}.run.jsonl")


async def fill(directory: Path, count: int) -> list[str]:
    """So many of them; their names."""
    given = [f"t{number:03}" for number in range(count)]
    for name in given:
        await put(directory, name)
    return given


def names(directory: Path) -> list[str]:
    """Of the files there."""
    return sorted(path.name.partition(".")[0] for path in directory.glob("*.jsonl"))
