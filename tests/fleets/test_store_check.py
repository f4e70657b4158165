"""What the commands, and `check_store`, say of a store: what is missing of a result, and of that alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.fleets import store_work
from tests.fleets.test_fleets import results_of
from triocept import read_traces
from triocept.errors import StoreError
from triocept.fleets import InProcess, check_store, open_fleet, open_store, read_results
from triocept.traces import Gap


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """One with three results, and a rollout whose driver and worker were killed: its last line is cut."""
    path = tmp_path / "s"
    async with open_store(path) as store, open_fleet(InProcess(3)) as fleet:
        await results_of(fleet, store_work.two_calls, [{"id": name} for name in "abc"], store=store)
    async with open_store(path) as store, open_fleet(InProcess(1)) as fleet:
        await results_of(fleet, store_work.two_calls, [{"id": "lost"}], store=store)
    done = path / "done.jsonl"
    done.write_bytes(b"".join(done.read_bytes().splitlines(keepends=True)[:3]))
    lost = min(files(path), key=lambda file: file.stat().st_size)
    lost.write_bytes(lost.read_bytes()[:-40])
    return path


def files(store: Path) -> list[Path]:
    return sorted((store / "traces").iterdir())


def main_file(store: Path) -> Path:
    return max(files(store), key=lambda file: file.stat().st_size)


def triocept(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triocept", *map(str, arguments)]
    env = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


async def test_what_an_attempt_without_a_result_lacks_is_no_gap(store: Path) -> None:
    report = check_store(store)
    assert report.complete
    assert (report.results, report.rollouts, report.attempts, report.turns) == (3, 3, 1, 8)


def damages() -> Iterator[tuple[str, Callable[[Path], object], set[str]]]:
    def without(store: Path, wanted: Callable[[list[bytes]], list[bytes]]) -> None:
        file = main_file(store)
        file.write_bytes(b"".join(wanted(file.read_bytes().splitlines(keepends=True))))

    def of_first(line: bytes, lines: list[bytes]) -> bool:
        return lines[0][:100] == line[:100] or json.loads(lines[0])["run"].encode() in line[:200]

    yield "a file", lambda store: main_file(store).unlink(), {"no_rollout"}
    yield (
        "a rollout",
        lambda store: without(store, lambda lines: [line for line in lines if not of_first(line, lines)]),
        {"no_rollout"},
    )
    yield (
        "a turn",
        lambda store: without(store, lambda lines: [line for line in lines if b'"type":"turn"' not in line]),
        {"lines_missing", "no_turn", "count_wrong"},
    )
    yield ("its end", lambda store: without(store, lambda lines: lines[:-1]), {"no_seal"})
    yield (
        "another seal",
        lambda store: (store / "done.jsonl").write_text(
            (store / "done.jsonl").read_text().replace('"digest":"', '"digest":"0')
        ),
        {"seal_changed"},
    )
    yield (
        "a result",
        lambda store: (store / "done.jsonl").write_bytes(b"{\n" + (store / "done.jsonl").read_bytes()),
        {"unreadable_line"},
    )
    yield (
        "a byte of a result",
        lambda store: (store / "done.jsonl").write_bytes(
            (store / "done.jsonl").read_bytes().replace(b'"id":"a"', b'"id":"\xff"')
        ),
        {"unreadable_line"},
    )


DAMAGES = {name: (spoil, gaps) for name, spoil, gaps in damages()}


@pytest.mark.parametrize("what", DAMAGES)
async def test_what_a_result_lacks_is_a_gap(what: str, store: Path) -> None:
    spoil, names = DAMAGES[what]
    spoil(store)
    report = check_store(store)
    assert not report.complete
    found: set[str] = {gap.name for gap in report.gaps}
    assert found & names
    assert found <= names
    assert all(isinstance(gap, Gap) and gap.path.startswith(str(store)) for gap in report.gaps)
    done = triocept("check", store)
    assert done.returncode == 1
    assert str(report.gaps[0]) in done.stdout


async def test_a_score_that_came_later_is_no_gap(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, open_fleet() as fleet:
        await results_of(fleet, store_work.score_later, ["a"], store=store)
        await trio.testing.wait_all_tasks_blocked(0.05)
    (file,) = files(tmp_path)
    (trace,) = read_traces(file)
    (result,) = read_results(tmp_path)
    assert trace.scores == {"late": 1.0}
    assert result.scores == {}
    assert trace.digest != result.traces[0].digest
    assert check_store(tmp_path).complete


async def test_the_command_tells_results_from_attempts(store: Path) -> None:
    done = triocept("check", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        f"{store}: complete: 3 results, 3 rollouts, 1 rollout without a result, 8 turns, "
    )
    said = json.loads(triocept("check", "--json", store).stdout)
    assert (said["complete"], said["results"], said["attempts"]) == (True, 3, 1)


async def test_attempts_without_a_result_are_not_counted_and_not_shown_unless_one_asks_for_them(
    store: Path,
) -> None:
    left_out = "left out: 1 rollout without a result"
    stats = triocept("stats", store)
    assert (stats.returncode, stats.stderr) == (0, "")
    assert stats.stdout.startswith("3 rollouts, 3 sealed, 6 calls")
    assert stats.stdout.splitlines()[-1] == left_out
    assert json.loads(triocept("stats", "--json", store).stdout)["left_out"] == 1
    shown = triocept("show", store)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[-1] == left_out
    assert sorted(line for line in shown.stdout.splitlines() if line.startswith("  task")) == [
        f"  task {name}, sample 0, attempt 1" for name in "abc"
    ]
    (lost,) = [file for file in files(store) if file != main_file(store)]
    (trace,) = read_traces(lost)
    asked = triocept("show", store, "--rollout", trace.rollout)
    assert asked.returncode == 0
    assert "not sealed" in asked.stdout


async def test_an_export_is_of_the_results(store: Path) -> None:
    done = triocept("export", "--to", "jsonl", store, "-o", "-")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 6
    assert done.stderr.endswith("left out: 1 rollout without a result\n▸ 6 turns of 3 rollouts\n")


async def test_a_store_without_a_result_says_so(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s"):
        pass
    assert (
        triocept("check", tmp_path / "s").stdout
        == f"{tmp_path}/s: complete: 0 results, 0 rollouts, 0 turns, 0 lines\n"
    )
    shown = triocept("show", tmp_path / "s")
    assert (shown.returncode, shown.stderr) == (
        1,
        f"Error: {tmp_path}/s holds no rollout: the file is empty\n",
    )


@pytest.mark.parametrize("command", ["check", "show", "stats"])
async def test_a_directory_that_is_no_store_or_a_newer_one_is_told(command: str, tmp_path: Path) -> None:
    done = triocept(command, tmp_path)
    assert done.returncode == 2
    assert "is a directory: name the files in it" in done.stderr
    async with open_store(tmp_path / "s"):
        pass
    run = tmp_path / "s" / "run.json"
    run.write_text(run.read_text().replace('"format": 1', '"format": 9'))
    done = triocept(command, tmp_path / "s")
    assert done.returncode == 2
    assert "was written by a newer triocept: its format is 9" in done.stderr
    with pytest.raises(StoreError):
        check_store(tmp_path / "s")


async def test_a_store_that_is_in_use_can_be_looked_at(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s") as store, open_fleet(InProcess(2)) as fleet:
        async with fleet.map(store_work.call_or_wait, ["a", "wait"], store=store) as results:
            assert (await anext(results)).task == "a"
            report = check_store(tmp_path / "s")
            assert report.complete
            assert report.results == 1
            assert [result.task for result in read_results(tmp_path / "s")] == ["a"]


async def test_results_whose_trace_file_is_missing_are_reported_by_each_command(
    store: Path, tmp_path: Path
) -> None:
    """Their calls would be absent from the counts, and from an export."""
    one = next(read_results(store)).traces[0].rollout
    kept = (store / "done.jsonl").read_bytes().splitlines(keepends=True)
    away = json.loads(kept[0])
    away["traces"][0]["file"] = "gone.jsonl"
    (store / "done.jsonl").write_bytes(json.dumps(away).encode() + b"\n" + b"".join(kept[1:]))
    text = f"{store}: the trace files of 1 of 3 results are missing; `triocept check` names them\n"
    out = tmp_path / "log.json"
    for command in (("stats", store), ("show", store), ("export", "--to", "jsonl", "-o", out, store)):
        done = triocept(*command)
        assert (done.returncode, text in done.stderr) == (1, True), done
    other = next(json.loads(line)["traces"][0]["rollout"] for line in kept if one.encode() not in line)
    done = triocept("show", store, "--rollout", other)
    assert (done.returncode, done.stderr) == (0, "")
    (result, *_) = read_results(store)
    with pytest.raises(
        StoreError, match=r"gone\.jsonl: the file with the traces of the result '.' is missing"
    ):
        list(result.traces)
    for file in files(store):
        file.unlink()
    for command in (("show", store), ("export", "--to", "jsonl", "-o", "-", store)):
        done = triocept(*command)
        assert (done.returncode, "missing" in done.stderr, done.stdout) == (1, True, ""), done
