"""A few points, drawn at random; `nox -s interrupts` takes each. And what the look at the end must see."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import run_python

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by prctl(2)"),
]
ROOT = Path(__file__).parents[2]
SECONDS = "10"

ONE_LOOK = """
from triocept._process import process
process.QUIET = 1
"""
INTERRUPTED_START = """
from triocept._process import command, process
command.kill_nowait = lambda process: None
process._leave = lambda agent, raised, watcher, token: agent._leave() if agent else watcher.unregister_nowait(token)
"""
INTERRUPTED_RECORDER = """
from trio.lowlevel import disable_ki_protection
from triocept import JSONLRecorder
for method in (JSONLRecorder.record, JSONLRecorder.record_entry, JSONLRecorder.seal):
    disable_ki_protection(method)
"""
LATE_SEAL = """
import trio
from triocept._rollout.record_writer import RecordWriter
begin = RecordWriter._begin
async def checkpoint(self):
    await trio.lowlevel.checkpoint()
    await begin(self)
RecordWriter._begin = checkpoint
"""


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    program = (
        f"{before}\nimport sys\nfrom tests.interrupts.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    return run_python(program, *arguments, timeout=250)


def test_programs_that_end_at_a_random_step_leave_nothing() -> None:
    done = run("--sample", "--seconds", SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " points, 0 failed" in done.stdout


@pytest.mark.parametrize(("defect", "arguments", "seen"), [
    (ONE_LOOK, "--only agents_that_fork_late --kind cancel --step 0 --times 40",
     "a process is left: sleep 700"),
    (INTERRUPTED_START, "--only agent --kind ctrl-c --first 38", "is still running"),
    (INTERRUPTED_RECORDER, "--only one_call --kind line --first 200 --stride 11", "a gap in the file"),
    (LATE_SEAL, "--only one_call --kind ctrl-c --first 35", "is not sealed"),
], ids=["one look", "interrupted start", "interrupted recorder", "late seal"])  # fmt: skip
def test_a_sweep_sees_what_does_not_hold(defect: str, arguments: str, seen: str) -> None:
    done = run(*arguments.split(), "--seconds", "60", "--first-failure", before=defect)
    assert done.returncode == 1, done.stdout + done.stderr
    assert seen in done.stdout
