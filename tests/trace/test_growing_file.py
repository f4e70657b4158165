"""A file that is read while it is written: nothing is told twice, and no rotation takes a trace that has ended."""

import os
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from tests.trace.test_proof import played, write
from triocept import DialectError, Trace
from triocept._trace import reader
from triocept._trace.lines import lines_in
from triocept._tracefiles.follow import INTERVAL
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


@pytest.mark.parametrize("part", [0, 3, 400])
def test_a_file_that_was_cut_off_and_has_grown_past_its_size_since_is_read_from_its_head(
    tmp_path: Path, part: int
) -> None:
    """Between two looks; and `part` bytes of a line had been read, with which the line begins that stands there now."""
    file, whole = tmp_path / "t.jsonl", tmp_path / "whole.jsonl"
    write(file, played("a", "a"))
    write(whole, [*played("b", "b"), *played("c", "c"), *played("d", "d")])
    line = whole.read_bytes()[:part]
    with file.open("ab") as opened:
        opened.write(line)
    traces = iter(iter_traces(file, follow=True))
    found = [next(traces)]
    assert len(whole.read_bytes()) > file.stat().st_size
    file.write_bytes(whole.read_bytes())  # cuts it off first
    found += [next(traces) for _ in range(3)]
    assert [(trace.rollout, trace.sealed) for trace in found] == [(name, True) for name in "abcd"]


def test_what_is_put_in_the_place_of_half_a_line_is_read_from_the_head_too(tmp_path: Path) -> None:
    file, whole = tmp_path / "t.jsonl", tmp_path / "whole.jsonl"
    write(file, played("a", "a"))
    size = file.stat().st_size
    write(whole, played("b", "b"))
    with file.open("ab") as opened:
        opened.write(whole.read_bytes()[:300].replace(b"b", b"x"))
    traces = iter(iter_traces(file, follow=True))
    found = [next(traces)]
    os.truncate(file, size)
    with file.open("ab") as opened:
        opened.write(whole.read_bytes())
    found += [next(traces), next(traces)]
    assert [(trace.rollout, trace.sealed) for trace in found] == [("a", True), ("a", True), ("b", True)]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("in_trio", [False, True])
def test_a_warning_of_a_damaged_line_names_the_line_that_iterates(
    tmp_path: Path, follow: bool, in_trio: bool
) -> None:
    file = tmp_path / "t.jsonl"
    write(file, played("a", "a"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], b"no line\n", *lines[2:]]))

    async def first() -> Trace:
        async with aclosing(aiter(iter_traces(file, follow=follow))) as traces:  # type: ignore[type-var]
            return await anext(traces)

    with pytest.warns(UserWarning, match="t.jsonl:3") as caught:
        assert trio.run(first) if in_trio else next(iter(iter_traces(file, follow=follow)))
    assert [warning.filename for warning in caught] == [__file__]
