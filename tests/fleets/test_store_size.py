"""A store of any size is read in the memory that its largest moment takes, and some hundred bytes for each result."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from tests.trace.telling import said
from triocept import JSONLRecorder, Request, Response, Trace, Turn
from triocept._cli.files import File
from triocept._trace.jsonl import place_of
from triocept._trace.trace import TraceWriter
from triocept.fleets import check_store, read_results
from triocept.fleets.store.layout import make, new_run, write_run
from triocept.fleets.store.lines import DoneFile, DoneLine, TracePlace

FEW, MANY = 100, 1000
BIG = 20_000
"""Bytes of a rollout, at least."""


async def write(path: Path, results: int) -> Path:
    """A store with so many results, of one rollout with one turn each."""
    make(path)
    write_run(path, new_run({}))
    done = DoneFile(path / "done.jsonl", fsync=False)
    recorder = JSONLRecorder(path / "traces" / "worker-0-1-a.jsonl")
    for number in range(results):
        trace = Trace(f"r{number}", run=f"n{number}")
        request = Request(dialect="openai_chat", model="m", messages=said("s", f"{number}" + BIG * "x"))
        turn = Turn(
            id=f"c{number}",
            rollout=trace.rollout,
            run=trace.run,
            number=0,
            dialect="openai_chat",
            request=request,
            outcome="answered",
            response=Response.of("yes"),
            started_at=1.0,
            duration=0.5,
        )
        await recorder.record(turn)
        TraceWriter(trace).add(turn)
        TraceWriter(trace).seal()
        await recorder.seal(trace)
        place = place_of(trace, recorder)
        done.append(
            DoneLine(
                key=str(number),
                outcome="value",
                value=msgspec.Raw(b"1"),
                number=number,
                attempt=1,
                worker="worker 0",
                at=1.0,
                traces=(
                    TracePlace(
                        rollout=trace.rollout,
                        run=trace.run,
                        file=recorder.path.name,
                        begin=place.begin,
                        end=place.end,
                        digest=place.digest,
                    ),
                ),
            )
        )
    done.close()
    return path


def peak(look: Callable[[Path], int], store: Path) -> tuple[int, int]:
    """What looking at it found, and how many bytes it took."""
    tracemalloc.start()
    try:
        return look(store), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LOOKS: dict[str, Callable[[Path], int]] = {
    "check": lambda store: check_store(store).rollouts,
    "show and stats": lambda store: sum(1 for _ in File(store)),
    "results": lambda store: sum(1 for _ in read_results(store)),
    "traces": lambda store: sum(len(result.traces[0]) for result in read_results(store)),
}


@pytest.mark.once
def test_what_is_held_of_a_result_is_small(tmp_path: Path) -> None:
    few, many = trio.run(write, tmp_path / "few", FEW), trio.run(write, tmp_path / "many", MANY)
    for name, look in LOOKS.items():
        peak(look, few)  # what is made once
        small, large = peak(look, few), peak(look, many)
        assert (small[0], large[0]) == (FEW, MANY)
        each = (large[1] - small[1]) / (MANY - FEW)
        assert each < 3000, f"{name}: {each:,.0f} bytes for each result"
