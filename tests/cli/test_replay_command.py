"""`triocept run --replay` and `--record-once`, as a person types them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_helpers import AGENT, PATIENCE

from tests.cli.cli_forks import triocept
from triocept import read_traces

pytestmark = pytest.mark.once


def run(
    *options: str | Path, texts: Sequence[str] = ("a", "b"), status: int = 0
) -> subprocess.CompletedProcess[str]:
    agent = [sys.executable, "-c", AGENT, str(status), *texts]
    return triocept("run", *options, "--", *agent, timeout=PATIENCE)


def script(folder: Path, *replies: str) -> Path:
    path = folder / f"{replies[0]}.json"
    path.write_text(json.dumps(replies))
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    assert run("--script", script(tmp_path, "one", "two"), "--record", path).returncode == 0
    return path


def test_a_recorded_run_answers_again(recorded: Path) -> None:
    done = run("--replay", recorded, texts=("b", "a", "a"))
    assert done.stdout == "said: two\nsaid: one\nsaid: one\n", done.stderr
    assert done.returncode == 0
    assert f"▸ replay   {recorded}\n" in done.stderr


def test_a_record_that_is_cut_is_said_to_be_so(recorded: Path) -> None:
    lines = recorded.read_bytes().splitlines(keepends=True)
    recorded.write_bytes(b"".join(lines[:-1]))  # the seal
    done = run("--replay", recorded)
    assert (
        f"▸ replay   {recorded}; the recorded run is not sealed: some of its turns may be missing\n"
        in done.stderr
    )


def test_a_miss_ends_the_command_and_shows_where_the_two_part(recorded: Path) -> None:
    done = run("--replay", recorded, texts=("c",))
    assert done.returncode == 1
    assert "+   - user: c" in done.stderr
    assert "Traceback" not in done.stderr.rpartition("Error: ")[2]
    assert done.stderr.count("no recorded call matches") == 2, (
        "in a few words where it happens, and whole at the end"
    )
    assert (
        "--match nearest uses the recorded turn whose request has the longest common beginning, and --script or "
        "--upstream lets" in done.stderr
    )
    assert done.stderr.count("+   - user: c") == done.stderr.count("record the run again") == 1


def test_a_run_is_not_recorded_into_the_record_that_it_replays(recorded: Path, tmp_path: Path) -> None:
    before = recorded.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(recorded)
    done = run("--replay", recorded, "--record", tmp_path / "link.jsonl")
    assert done.returncode == 2
    assert "name another file" in done.stderr
    assert recorded.read_bytes() == before


def test_a_script_answers_what_the_record_does_not_have(recorded: Path, tmp_path: Path) -> None:
    other = script(tmp_path, "three")
    done = run("--replay", recorded, "--script", other, texts=("a", "c"))
    assert done.stdout == "said: one\nsaid: three\n", done.stderr


@pytest.mark.parametrize("turn", ["0", "-2", "id"])
def test_a_script_takes_over_at_a_turn(recorded: Path, tmp_path: Path, turn: str) -> None:
    (trace,) = read_traces(recorded)
    until = trace[0].id if turn == "id" else turn
    record = tmp_path / "forked.jsonl"
    done = run(
        "--replay", recorded, "--until", until, "--script", script(tmp_path, "three"), "--record", record
    )
    assert done.stdout.startswith("said: three\n"), done.stderr
    (forked,) = read_traces(record)
    assert forked[0].notes["replay"]["fork"] == trace[0].id


def test_a_conversation_and_a_number_name_a_turn(recorded: Path, tmp_path: Path) -> None:
    (trace,) = read_traces(recorded)
    until = f"{trace.conversations[trace[1].id].id}:0"
    done = run("--replay", recorded, "--until", until, "--script", script(tmp_path, "three"))
    assert done.stdout == "said: one\nsaid: three\n", done.stderr
    assert f"▸ replay   {recorded}, the turns before {until}\n" in done.stderr


def test_main_is_the_name_of_the_main_conversation(recorded: Path, tmp_path: Path) -> None:
    done = run("--replay", recorded, "--until", "main:0", "--script", script(tmp_path, "three"))
    assert done.stdout.startswith("said: three\n"), done.stderr


def test_the_turn_that_begins_most_alike_answers_if_that_is_asked_for(recorded: Path) -> None:
    assert run("--replay", recorded, texts=("a", "c")).returncode != 0
    done = run("--replay", recorded, "--match", "nearest", texts=("a", "c"))
    assert done.stdout == "said: one\nsaid: two\n", done.stderr


def test_of_several_runs_one_has_to_be_named(recorded: Path, tmp_path: Path) -> None:
    run("--script", script(tmp_path, "uno", "due"), "--record", recorded)
    first, second = read_traces(recorded)
    unnamed = run("--replay", recorded)
    assert unnamed.returncode == 1
    assert f"({first.rollout}, {second.rollout}): choose one with --rollout ID" in unnamed.stderr
    named = run("--replay", recorded, "--rollout", second.rollout)
    assert named.stdout == "said: uno\nsaid: due\n", named.stderr
    assert "contains no rollout 'r_0'" in run("--replay", recorded, "--rollout", "r_0").stderr


def test_what_is_recorded_once_is_replayed_from_then_on(tmp_path: Path) -> None:
    kept, once = tmp_path / "kept.jsonl", script(tmp_path, "one", "two")
    first = run("--record-once", kept, "--script", once)
    assert first.stdout == "said: one\nsaid: two\n", first.stderr
    assert f"2 turns recorded in {kept}" in first.stderr
    content = kept.read_bytes()
    again = run("--record-once", kept, "--script", script(tmp_path, "other"))
    assert again.stdout == "said: one\nsaid: two\n", again.stderr
    assert kept.read_bytes() == content
    assert [path.name for path in tmp_path.glob("kept*")] == ["kept.jsonl"]


def test_a_run_that_failed_is_not_kept_and_is_recorded_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    failed = run("--record-once", kept, "--script", script(tmp_path, "one", "two"), status=3)
    assert failed.returncode == 3
    assert "the recording was not saved" in failed.stderr
    assert not kept.exists()
    again = run("--record-once", kept, "--script", script(tmp_path, "uno", "due"))
    assert again.stdout == "said: uno\nsaid: due\n", again.stderr
    assert len(read_traces(kept)) == 1


@pytest.mark.parametrize(("options", "problem"), [
    (["--until", "1"], "--rollout and --until need --replay FILE"),
    (["--match", "nearest"], "--match needs --replay FILE"),
    (["--rollout", "r"], "--rollout and --until need --replay FILE"),
    (["--replay", "{}", "--until", "1"], "--until needs a model that answers from that turn on"),
    (["--replay", "{}", "--record-once", "x"], "--record-once excludes --replay, --until"),
    (["--record", "x", "--record-once", "y"], "--record-once excludes --replay, --until"),
])  # fmt: skip
def test_options_that_say_too_little_or_too_much_are_told(
    recorded: Path, options: list[str], problem: str
) -> None:
    done = run(*[option.format(recorded) for option in options])
    assert done.returncode == 2
    assert problem in " ".join(done.stderr.split())


def test_a_turn_that_is_not_there_is_told_with_what_is(recorded: Path, tmp_path: Path) -> None:
    done = run("--replay", recorded, "--until", "9", "--script", script(tmp_path, "x"))
    assert done.returncode == 1
    assert "Error: --until: the main conversation" in done.stderr
