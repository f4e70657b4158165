"""What a person sees of a fleet: a picture in a terminal, lines in a log, and a last word in both."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fleets import work
from triocept import Endpoint
from triocept.fleets import (
    InProcess,
    MapEnded,
    Outcome,
    TaskEnded,
    TaskRequeued,
    TaskSkipped,
    TaskStarted,
    open_fleet,
)
from triocept.fleets.progress import LINE_EVERY, summary
from triocept.fleets.tally import WINDOW, Rate, Tally


def started(number: int, attempt: int = 1) -> TaskStarted:
    return TaskStarted(map=0, number=number, group=None, sample=0, attempt=attempt, worker="w")


def ended(number: int, outcome: Any = "value", reason: str = "", tokens: int = 0) -> TaskEnded:
    return TaskEnded(
        map=0, number=number, group=None, sample=0, attempt=1, worker="w",
        outcome=outcome, reason=reason, input_tokens=tokens,
    )  # fmt: skip


def test_a_tally_counts_what_runs_what_ended_and_how() -> None:
    tally = Tally("solve", 10, 0.0)
    for event in (started(0), started(1), started(2), started(3)):
        tally.add(event, 1.0)
    assert tally.in_flight == 4
    tally.add(ended(0), 2.0)
    tally.add(ended(1, "error", "ValueError: no"), 2.0)
    tally.add(
        TaskRequeued(map=0, number=2, group=None, sample=0, attempt=1, worker="w", reason="killed"), 2.0
    )
    assert (tally.in_flight, tally.again, tally.ended) == (1, 1, 2)
    tally.add(started(2, 2), 3.0)
    tally.add(ended(2, "lost", "killed"), 4.0)
    tally.add(ended(3, "stopped"), 4.0)
    assert tally.in_flight == 0
    assert tally.outcomes == {"value": 1, "error": 1, "lost": 1, "stopped": 1}
    assert tally.last_failure == "task 2: killed"


def test_the_time_left_goes_by_what_happened_of_late() -> None:
    tally = Tally("solve", 100, 0.0)
    assert tally.seconds_left(0.0) is None, "nobody knows yet"
    for number in range(10):
        tally.add(ended(number), float(10 + number))
    assert tally.seconds_left(20.0) == pytest.approx(180)
    for number in range(10, 40):
        tally.add(ended(number), 20 + WINDOW + number * 2)
    assert tally.seconds_left(100.0 + WINDOW) == pytest.approx(120, rel=0.05), (
        "the slow beginning is forgotten"
    )
    assert tally.seconds_left(1000.0) == pytest.approx(1500), "nothing of late: all that came counts"


def test_of_tasks_without_a_length_nobody_knows_what_is_left() -> None:
    tally = Tally("solve", None, 0.0)
    tally.add(ended(0), 1.0)
    assert tally.seconds_left(2.0) is None


def test_what_was_done_before_is_no_speed() -> None:
    tally = Tally("solve", 100, 0.0)
    tally.add(TaskSkipped(map=0, task=0, count=90), 0.0)
    tally.add(ended(90), 10.0)
    assert tally.seconds_left(10.0) == pytest.approx(90)


def test_a_rate_keeps_no_more_than_its_window_has_seconds() -> None:
    rate = Rate(0.0)
    for second in range(10 * WINDOW):
        for part in (0.0, 0.3, 0.9):
            rate.add(2, second + part)
    assert len(rate._seconds) <= WINDOW + 1
    assert rate.per_second(10.0 * WINDOW) == pytest.approx(6, rel=0.05)


def test_errors_of_many_kinds_are_told_apart_up_to_a_bound() -> None:
    tally = Tally("solve", 1000, 0.0)
    for number in range(1000):
        tally.add(ended(number, "error", f"E{number % 100}: no"), 1.0)
    assert len(tally.kinds) <= 21
    assert tally.kinds.total() == 1000


def test_the_last_word_says_all_that_is_not_nothing() -> None:
    tally = Tally("solve", 10, 0.0)
    tally.add(TaskSkipped(map=0, task=0, count=3), 0.0)
    for number in range(3, 7):
        tally.add(ended(number, tokens=1000), 10.0)
    for number, kind in ((7, "ValueError: a"), (8, "ValueError: b"), (9, "OSError: c")):
        tally.add(ended(number, "error", kind), 20.0)
    tally.add(MapEnded(map=0, unfinished=0), 60.0)
    assert summary(tally, 90.0) == (
        "solve: 10 in 60.00s: 4 done, 3 failed (2 ValueError, 1 OSError), 3 done before, 4.0k tokens, 67/s"
    )


def test_a_map_whose_tasks_were_all_done_before_has_a_summary_of_that_alone() -> None:
    tally = Tally("solve", 4, 0.0)
    tally.add(TaskSkipped(map=0, task=0, count=4), 0.0)
    tally.add(MapEnded(map=0, unfinished=0), 0.0)
    assert summary(tally, 0.0) == "solve: all 4 were done in an earlier run"


async def test_the_summary_reports_rollouts_that_received_no_model_call(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def forget_the_model(worker: Endpoint, task: bool, *, attempt: int) -> None:
        async with worker.open_rollout(work.answer) as rollout:
            if task:
                await rollout.run_agent([sys.executable, "-S", "-c", work.AGENT, "hello"])

    async with open_fleet(progress=True) as fleet:
        for tasks in ([False, False], [False, True], []):
            async with fleet.map(forget_the_model, tasks) as results:
                async for _ in results:
                    pass
    without, one, none = capfd.readouterr().err.splitlines()
    assert without.endswith(
        ": 2 done; no rollout received a model call: check the base URL and the key that the agent uses"
    )
    assert "no rollout received" not in one + none


def test_a_map_of_agents_that_failed_has_no_advice_on_the_base_url() -> None:
    for ends, advice in ((["AgentFailed: a"] * 2, False), (["AgentFailed: a", "OSError: b"], True)):
        tally = Tally("solve", 2, 0.0)
        for number, kind in enumerate(ends):
            tally.add(ended(number, "error", kind), 1.0)
        tally.rollouts = 2
        assert ("check the base URL" in summary(tally, 1.0)) is advice


def test_the_last_word_of_a_map_that_was_left_says_so() -> None:
    tally = Tally("solve", 10, 0.0)
    tally.add(ended(0), 1.0)
    tally.add(MapEnded(map=0, unfinished=2), 130.0)
    assert summary(tally, 130.0) == "solve: 1 of 10 in 2m10s: 1 done, 2 cut short"


async def wait(worker: object, task: float, *, attempt: int) -> None:
    await trio.sleep(task)
    if task == 7:
        raise LookupError("no \x1b[31msuch\nbug")


async def test_a_log_has_a_line_now_and_then_and_a_last_word(
    autojump_clock: object, capfd: pytest.CaptureFixture[str]
) -> None:
    async with (
        open_fleet(InProcess(2), progress=True) as fleet,
        fleet.map(wait, [1.0, 7.0, LINE_EVERY + 10, LINE_EVERY * 2.5]) as results,
    ):
        async for _ in results:
            pass
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(
        r"▸ 3\d\.\d\ds wait: 2 of 4 \(50 %\), 1 done, 1 failed, 2 in flight, 1 worker, \d+s left; "
        r"task 1: LookupError: no \\x1b\[31msuch bug",
        lines[0],
    ), lines[0]
    assert lines[1].startswith("▸ 6")
    assert re.fullmatch(r"▸ wait: 4 in 8\d\.\d\ds: 3 done, 1 failed \(1 LookupError\)", lines[2]), lines[2]


async def test_without_progress_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    async with open_fleet() as fleet, fleet.map(wait, [0.0]) as results:
        async for _ in results:
            pass
    assert capfd.readouterr() == ("", "")


async def test_the_last_word_comes_however_the_fleet_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_fleet(progress=True) as fleet, fleet.map(wait, [0.0, 10.0]) as results:
            await anext(results)
            raise KeyError("mine")
    with trio.move_on_after(1):
        async with open_fleet(progress=True) as fleet, fleet.map(wait, [10.0]) as results:
            await anext(results)
    first, second = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"▸ wait: 1 of 2 in \S+: 1 done, 1 cut short", first)
    assert re.fullmatch(r"▸ wait: 0 of 1 in \S+: 0 done, 1 cut short", second)


async def test_a_screen_that_takes_nothing_holds_no_fleet_up(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    os.set_blocking(writer, True)
    with os.fdopen(writer, "w") as stderr, os.fdopen(reader, "rb", buffering=0):
        monkeypatch.setattr(sys, "stderr", stderr)
        before = time.monotonic()
        async with open_fleet(progress=True) as fleet, fleet.map(wait, [LINE_EVERY * 3.5]) as results:
            assert not isinstance((await anext(results)).outcome, Outcome.Error)
        assert time.monotonic() - before < 20
        monkeypatch.undo()


PROGRAM = """
import sys, trio
from triocept.fleets import InProcess, open_fleet

async def wait(worker, task, *, attempt):
    await trio.sleep(task)
    if task == 0.5:
        raise LookupError("no such bug")

async def main():
    async with open_fleet(InProcess(2), progress=True) as fleet:
        async with fleet.map(wait, [0.5, 1.0, 1.5]) as results:
            async for result in results:
                print("the program's line", result.task)
                if sys.argv[1] == "err":
                    raise KeyError("mine")

trio.run(main)
"""


def in_a_terminal(*argv: str, stdout: Any = None) -> str:
    """What a program writes to its terminal."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "90"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv], stdin=theirs, stdout=stdout or theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # how a terminal says that it has been left
        pass
    os.close(ours)
    process.wait(60)
    return b"".join(parts).decode()


def screen(said: str) -> list[str]:
    """What stands on it in the end: of the codes, only those that move are heeded."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", said):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part[0] == "\x1b":
            row = max(0, row - int(part[2:-1] or 1))
        elif part.endswith("K") and part[0] == "\x1b":
            lines[row] = ""
        elif part[0] != "\x1b":
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.once
def test_a_terminal_has_a_picture_that_changes_and_goes() -> None:
    said = in_a_terminal("")
    assert "━" in said
    assert "1 of 3 (33 %)" in said
    assert "task 0: LookupError: no such bug" in said
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") > 0, "the cursor is there again"
    *printed, last = screen(said)
    assert printed == [f"the program's line {task}" for task in (0.5, 1.0, 1.5)]
    assert re.fullmatch(r"▸ wait: 3 in \S+: 2 done, 1 failed \(1 LookupError\)", last)


@pytest.mark.once
def test_output_that_goes_to_a_file_is_left_alone_while_there_is_a_picture(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        said = in_a_terminal("", stdout=out)
    assert (tmp_path / "out").read_text() == "".join(f"the program's line {t}\n" for t in (0.5, 1.0, 1.5))
    assert "the program's line" not in said


@pytest.mark.once
def test_an_error_stands_under_the_last_word_whole() -> None:
    lines = screen(in_a_terminal("err"))
    word = next(number for number, line in enumerate(lines) if line.startswith("▸ wait: 1 of 3"))
    assert lines[word + 1] == "Traceback (most recent call last):"
    assert re.sub(r"\x1b\[[0-9;]*m", "", lines[-1]) == "KeyError: 'mine'"
