"""A file that is read while it is written: nothing is told twice, and no rotation takes a trace that has ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.trace.test_proof import played, write
from triocept import DialectError, Trace
from triocept._tail import INTERVAL
from triocept._trace import reader
from triocept._trace.found_lines import lines_in
from triocept.traces import iter_traces


@pytest.mark.parametrize("cut", [0, 40])
def test_what_is_written_while_a_file_is_read_is_not_a_trace_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """The file is read twice; a program writes on in between. `cut` bytes of a line are there already."""
    whole, file = tmp_path / "whole.jsonl", tmp_path / "t.jsonl"
    write(whole, played())
    lines = whole.read_bytes().splitlines(keepends=True)
    head = b"".join(lines[:9]) + lines[9][:cut]
    file.write_bytes(head)

    def grown(*given: object) -> object:
        found = list(lines_in(*given))  # type: ignore[arg-type]
        file.write_bytes(whole.read_bytes())
        return iter(found)

    monkeypatch.setattr(reader, "lines_in", grown)
    damages: list[DialectError] = []
    (trace,) = iter_traces(file, on_damage=damages.append)
    assert damages == []
    assert {gap.name for gap in trace.gaps} == {"no_seal", "no_turn"}


async def test_a_file_that_is_moved_away_is_read_to_its_end_first(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    whole = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for one in whole:
        await trio.to_thread.run_sync(write, one, played(one.stem, one.stem))
    got: list[tuple[str, bool]] = []

    async def follow() -> None:
        async for trace in iter_traces(file, follow=True):
            got.extend([(trace.rollout, trace.sealed)])

    def append(one: Path) -> None:
        with file.open("ab") as opened:
            opened.write(one.read_bytes())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            append(whole[0])
            nursery.start_soon(follow)
            while len(got) < 1:
                await trio.sleep(INTERVAL / 10)
            append(whole[1])  # and at once, before anybody has looked
            os.replace(file, tmp_path / "t.jsonl.1")
            append(whole[2])
            while len(got) < 3:
                await trio.sleep(INTERVAL / 10)
            nursery.cancel_scope.cancel()
    assert got == [("a", True), ("b", True), ("c", True)]


def test_a_file_that_is_cut_off_is_read_from_its_head(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    write(file, [*played("a", "a"), *played("b", "b")])
    traces = iter(iter_traces(file, follow=True))
    found: list[Trace] = [next(traces), next(traces)]
    os.truncate(file, 0)
    write(file, played("c", "c"))
    found.append(next(traces))
    assert [trace.rollout for trace in found] == ["a", "b", "c"]
