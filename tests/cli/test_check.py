"""`triocept check`, as a person types it."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.test_cli import triocept
from tests.trace.test_file import OF_FORMAT_1
from tests.trace.test_proof import played, write
from triocept.traces import check

pytestmark = pytest.mark.once


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    write(path, played())
    return path


def test_a_whole_file_is_one_line_and_status_0(file: Path) -> None:
    done = triocept("check", file)
    lines = len(file.read_bytes().splitlines())
    assert (done.returncode, done.stdout) == (0, f"{file}: complete: 1 rollout, 3 turns, {lines} lines\n")


def test_each_gap_is_a_line_with_its_place_and_the_status_is_1(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    done = triocept("check", file)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{file}:4: no_seal of rollout r: the file contains no seal of this rollout",
        f"{file}:5: unreadable_line: the line was cut off",
        f"{file}: 2 gaps; the readable part: 1 rollout, 0 turns, 4 lines",
    ]
    assert (triocept("check", "--quiet", file).stdout, triocept("check", "--quiet", file).returncode) == (
        "",
        1,
    )


def test_json_is_the_report(file: Path) -> None:
    (told,) = map(json.loads, triocept("check", "--json", file).stdout.splitlines())
    assert told["complete"] is True
    assert told["digests"] == check(file).digests
    file.write_bytes(file.read_bytes()[:-30])
    (told,) = map(json.loads, triocept("check", "--json", file).stdout.splitlines())
    assert (told["complete"], [gap["name"] for gap in told["gaps"]]) == (
        False,
        ["no_seal", "unreadable_line"],
    )


def test_what_is_no_trace_file_is_told_in_words_and_the_others_are_looked_at(
    file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other\x1b[2J.csv"
    other.write_bytes(b"a,b\n\x1b[31m\xff\n")
    empty = tmp_path / "empty"
    empty.touch()
    done = triocept("check", tmp_path, tmp_path / "none", other, empty, file)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines() == [
        f"{tmp_path} is a directory: name the files in it, as in {tmp_path}/*.jsonl",
        f"{tmp_path / 'none'}: No such file or directory",
    ]
    said = done.stdout.splitlines()
    assert said[-1].startswith(f"{file}: complete: ")
    assert said[-2] == f"{empty}: the file is empty"
    assert (
        f"{tmp_path}/other\\x1b[2J.csv is not a trace file: its first line is 'a,b'. Trace files are written by "
        "`triocept run --record FILE`, and by JSONLRecorder in a program" in said
    )
    assert "\x1b" not in done.stdout


def test_what_is_no_trace_file_is_said_in_one_line(tmp_path: Path) -> None:
    other = tmp_path / "x"
    other.write_bytes(b"a,b\n" * 99)
    said = triocept("check", other).stdout.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        f"{other} is not a trace file: its first line is 'a,b'. Trace files are written by "
    )
    other.write_bytes(b'{"type":"turn","version":99}\n')
    said = triocept("check", other).stdout.splitlines()
    assert said[0] == f"{other}:1: newer_version: the line was written by a newer triocept (format 99)"
    assert said[1:] == [f"{other}: 1 gap; the readable part: 0 rollouts, 0 turns, 0 lines"]


@pytest.mark.parametrize("command", [
    ("check",),
    ("show",),
    ("stats",),
    ("diff", "0", "1"),
    ("export", "--to", "openai", "-o", "-"),
    ("run", "--replay"),
], ids=lambda command: command[0])  # fmt: skip
def test_a_file_of_format_1_names_the_version_that_reads_it(tmp_path: Path, command: tuple[str, ...]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(OF_FORMAT_1)
    name, *options = command
    done = triocept(name, path, *options) if name != "run" else triocept(*command, path, "--", "true")
    assert done.returncode == 1
    assert f"{path}:1: " in done.stdout + done.stderr
    assert "the line has format 1, which triocept 0.2.0 can read" in done.stdout + done.stderr


def test_a_pipe_that_is_closed_early_leaves_no_traceback(file: Path) -> None:
    file.write_bytes(b"x\n" * 20_000)
    reading, writing = os.pipe()
    os.close(reading)
    import subprocess
    import sys

    with os.fdopen(writing, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "triocept", "check", str(file)],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert "Traceback" not in done.stderr


def test_nothing_is_recorded_behind_something_else(tmp_path: Path, file: Path) -> None:
    script = tmp_path / "replies.py"
    script.write_text("replies = []\n")
    done = triocept("demo", "--record", script)
    assert done.returncode == 2
    assert f"{script} is not a trace file" in done.stderr.replace("\n", " ")
    assert script.read_text() == "replies = []\n"
    assert triocept("demo", "--record", file).returncode == 0
    assert len(check(file).digests) == 2
