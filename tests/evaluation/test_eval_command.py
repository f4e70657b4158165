"""`triocept eval`: tasks in, a table out; the exit status is 1 if any sample has no score."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.cli_forks import triocept
from tests.cli.cli_helpers import on_a_terminal
from tests.evaluation.agents import COMMAND
from triocept._cli.commands import main
from triocept.evaluation import read_results

AGENT = ("--", *COMMAND)
USUAL = ("--engine", "in-process:4", "--script", "script.yaml", "--store", "run")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.yaml").write_text("- hello\n")
    return tmp_path


def write_tasks(*tasks: dict[str, Any]) -> None:
    usual = {"check": "grep -q hello out.txt"}
    Path("tasks.jsonl").write_text("".join(json.dumps(usual | task) + "\n" for task in tasks))


def evaluated(*arguments: str) -> subprocess.CompletedProcess[str]:
    return triocept("eval", "tasks.jsonl", *USUAL, *arguments, *AGENT, timeout=90)


def test_tasks_become_a_table_within_80_columns(folder: Path) -> None:
    write_tasks({"id": "say", "prompt": "say it"}, {"id": "x" * 100, "prompt": "fail", "check": "false"})
    run = evaluated("--samples", "2")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0].startswith("tasks · ")
    assert "script.yaml" in lines[0]
    assert max(map(len, lines)) <= 78
    assert any(line.split()[:2] == ["check", "0.500"] for line in lines), run.stdout
    assert any(
        line.startswith("say ") and "2 of 2" in line and "~" in line for line in lines
    )  # estimated tokens
    assert any("agent failed" in line and "2" in line for line in lines)
    assert "no score: provider error, no model call, failed start or scorer, lost worker." in lines
    assert "▸ store    run" in run.stderr
    assert "4 of 4 in" in run.stderr
    assert read_results("run").values("check") == {"say": [1.0, 1.0], "x" * 100: [0.0, 0.0]}


def test_tables_name_the_function_that_answers_so_two_handlers_of_one_file_differ(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it"})
    answer = "async def {}(exchange):\n    await exchange.respond('hello')\n"
    (folder / "mine.py").write_text(answer.format("brief") + answer.format("careful"))
    for name in ("brief", "careful"):
        run = triocept(
            *("eval", "tasks.jsonl", "--engine", "in-process:1", "--store", name),
            *("--handler", f"mine.py:{name}", *AGENT),
            timeout=90,
        )
        assert run.returncode == 0, run.stderr
        assert read_results(name).model == f"mine.py:{name}"


def test_the_status_is_1_if_a_sample_has_no_score_and_the_next_start_names_it(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it"}, {"id": "b", "prompt": "say it", "setup": "exit 1"})
    run = evaluated("--json")
    assert run.returncode == 1
    found = json.loads(run.stdout)
    assert (found["tasks"], found["samples"], found["scored"]) == (2, 2, 1)
    assert found["errors"] == {"setup_failed": 1}
    assert found["scores"]["check"]["mean"] == 1.0
    assert "▸ b/0: setup failed: the setup script returned 1\n" in run.stderr
    assert (
        "▸ 1 of 2 samples lack a score\n▸ to run them again, use the same command with --retry-errors"
        in run.stderr
    )
    refused = evaluated()
    assert refused.returncode == 2
    assert "run holds the results of a run: continue that run with --resume" in refused.stderr
    again = evaluated("--resume")
    assert again.returncode == 1
    assert "1 of 2 samples of earlier runs lack a score (1 setup failed): b/0" in again.stderr
    assert "to run them again: --retry-errors" in again.stderr
    retried = evaluated("--retry-errors")
    assert retried.returncode == 1
    assert [sample.attempts for sample in read_results("run").samples] == [1, 2]


def test_scorers_of_a_file_and_of_the_command_line_score_together(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "import helper\n"
        "def short(trace, task, workdir, *, answer):\n"
        "    return {'short': len(answer) < helper.LONG, 'files': len(list(workdir.iterdir()))}\n"
    )
    (folder / "helper.py").write_text("LONG = 10\n")
    write_tasks({"id": "a", "prompt": "say it", "target": "hello"})
    run = evaluated(
        *(
            "--scorer",
            "mine.py:short",
            "--scorer",
            "includes",
            "--scorer",
            "regex:^h",
            "--scorer",
            "polite=regex:a=b|please",
            "--scorer",
            "file:out.txt",
        ),
        *("--engine", "processes:1"),
    )
    assert run.returncode == 0, run.stderr
    (sample,) = read_results("run").samples
    assert {name: score.value for name, score in sample.scores.items()} == {
        "short.short": 1.0, "short.files": 1.0, "includes": 1.0, "regex": 1.0, "polite": 0.0, "file": 1.0,
    }  # fmt: skip


def test_a_file_that_no_sample_has_is_said_beside_the_score(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it", "target": "hello"})
    run = evaluated("--scorer", "file:none.txt")
    assert run.returncode == 0, run.stderr
    assert "  file, all samples: the working directory has no file none.txt\n" in run.stdout
    assert "all samples:" not in evaluated("--scorer", "file:out.txt", "--store", "other").stdout


def test_a_text_that_looks_like_the_path_of_a_missing_file_is_said(folder: Path) -> None:
    (folder / "there.txt").write_text("x")
    files = {"a.txt": "src/nothere.txt", "b.txt": "there.txt", "c.txt": "two words.txt", "d.txt": "1.5"}
    write_tasks({"id": "a", "prompt": "say it", "target": "hello", "files": files})
    run = evaluated("--scorer", "includes")
    text = "▸ task 'a': there is no file 'src/nothere.txt', so this text is the content of a.txt\n"
    assert run.stderr.count("there is no file") == run.stderr.count(text) == 1


def test_after_a_rescoring_of_a_run_that_ended_early_the_samples_that_were_not_run_are_counted(
    folder: Path,
) -> None:
    write_tasks(*({"id": name, "prompt": "say it", "target": "hello"} for name in ("a", "b", "c")))
    (folder / "mine.py").write_text("def mine(trace, task, workdir):\n    raise ValueError\n")
    one = ("--engine", "in-process:1", "--scorer", "mine.py:mine", "--fail-on-error", "1")
    assert evaluated(*one).returncode == 1
    again = evaluated("--scorer", "includes", "--rescore")
    assert again.returncode == 1
    assert again.stderr.endswith(
        "▸ 2 of 3 samples lack a score\n▸ 2 of them have no work to score: first run them with --retry-errors\n"
    )
    assert reasons() == ["scorer_failed"]
    assert evaluated(*one[:4], "--retry-errors").returncode == 1
    assert reasons() == ["scorer_failed"] * 3
    again = evaluated("--scorer", "mine.py:mine", "--rescore")
    assert again.stderr.endswith("use the same command with --rescore, without --resume\n")


def reasons() -> list[str | None]:
    return [sample.reason for sample in read_results("run").samples]


def test_too_many_samples_without_a_score_end_the_run_and_those_of_earlier_runs_count(folder: Path) -> None:
    write_tasks(*({"id": f"t{number}", "prompt": "say it", "setup": "exit 1"} for number in range(6)))
    one = ("--engine", "in-process:1")
    first = evaluated(*one, "--fail-on-error", "2")
    assert first.returncode == 1
    assert "▸ 2 samples lack a score: the run ends here (--fail-on-error)" in first.stderr
    assert reasons() == ["setup_failed"] * 2
    second = evaluated(*one, "--resume", "--fail-on-error", "0.3")
    assert second.returncode == 1
    assert "2 samples of earlier runs lack a score: no further sample is run" in second.stderr
    assert reasons() == ["setup_failed"] * 2
    third = evaluated(*one, "--retry-errors", "--fail-on-error", "0.5")
    assert "▸ 3 samples lack a score: the run ends here (--fail-on-error)" in third.stderr
    assert [sample.attempts for sample in read_results("run").samples] == [2, 2, 1]


def test_low_scores_have_the_status_0_and_end_no_run(folder: Path) -> None:
    write_tasks(*({"id": f"t{number}", "prompt": "fail", "check": "false"} for number in range(3)))
    run = evaluated("--fail-on-error", "1")
    assert run.returncode == 0, run.stderr
    assert reasons() == [None] * 3


def test_the_progress_counts_each_sample_once_if_more_samples_are_planned_later(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it"}, {"id": "b", "prompt": "say it"})
    assert "▸ 2 of 2 in" in evaluated().stderr
    assert "▸ 6 of 6 in" in evaluated("--resume", "--samples", "3").stderr
    write_tasks(*({"id": name, "prompt": "say it"} for name in "abc"))
    assert "▸ 3 of 3 in" in evaluated("--resume", "--samples", "3", "--task-id", "c").stderr


def test_the_store_of_another_list_of_tasks_is_refused_before_an_agent_starts(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it"})
    assert evaluated().returncode == 0
    write_tasks({"id": "z", "prompt": "say it"})
    for tasks, text in {
        "z": "another list of tasks: it has the task 'a', which is not in tasks",
        "a": "task 'a' differs",
    }.items():
        write_tasks({"id": tasks, "prompt": "say something else"})
        run = evaluated("--resume")
        assert run.returncode == 2
        assert text in run.stderr
        assert "▸" not in run.stderr
    assert read_results("run").values("check") == {"a": [1.0]}


def test_quiet_keeps_the_reasons_and_hides_the_progress(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it", "setup": "exit 1"})
    run = evaluated("--quiet")
    assert "▸ a/0: setup failed: the setup script returned 1" in run.stderr
    assert "1 of 1 in" not in run.stderr


def test_known_keys_are_removed_from_the_reason_of_a_sample_without_a_score(folder: Path) -> None:
    key = "sk-ant-api03-" + "A" * 40
    write_tasks({"id": "a", "prompt": "say it", "check": f"echo {key}"})
    (folder / "mine.py").write_text(f"def leak(trace, task, workdir):\n    raise ValueError({key!r})\n")
    run = evaluated("--redact-known-keys", "--scorer", "mine.py:leak", "--scorer", "check")
    assert "raised ValueError: [redacted]" in run.stderr
    assert key not in run.stderr
    assert key not in read_results("run").samples[0].explanation


def test_a_relative_path_in_the_agents_command_is_explained(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it"})
    (folder / "agent.py").write_text("")
    run = triocept("eval", "tasks.jsonl", *USUAL, "--", sys.executable, "agent.py", "{prompt}", timeout=90)
    assert run.returncode == 1
    assert "each agent works in its own directory, but agent.py is a file of this directory" in run.stderr
    assert (
        "with --retry-errors\n▸ if you have changed the agent's command, name another --store\n" in run.stderr
    )
    shown = triocept("stats", "run", "--by", "task", timeout=90).stdout
    assert "no score    1   1 no model call" in shown
    assert "a/0: no model call: the agent never called the model" in shown


def test_a_store_is_refused_if_the_content_of_the_script_or_of_the_rules_has_changed(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it"})
    (folder / "rules.yaml").write_text("read: approve\n")
    assert evaluated("--policy", "rules.yaml").returncode == 0
    for name, was, now in (
        ("script.yaml", "- hello\n", "- hello\n- more\n"),
        ("rules.yaml", "read: approve\n", "read: reject\n"),
    ):
        (folder / name).write_text(now)
        again = evaluated("--policy", "rules.yaml", "--resume", "--samples", "2")
        assert again.returncode == 2
        assert f"the content of {folder / name} has changed since this run started" in again.stderr
        assert "choose another --store, or restore the file" in again.stderr
        (folder / name).write_text(was)
    assert len(read_results("run").samples) == 1
    assert evaluated("--policy", "rules.yaml", "--resume", "--samples", "2").returncode == 0


def test_live_shows_the_samples_in_a_table_below_the_progress_and_view_their_page(folder: Path) -> None:
    write_tasks({"id": "my-task", "prompt": "say it"})
    (folder / "script.yaml").write_text("- 3\n- hello\n")  # a pause, in which the table is drawn
    options = ("--live", "--view", "--engine", "processes:1", *USUAL[2:])
    shown = on_a_terminal("eval", "tasks.jsonl", *options, *AGENT, columns=100, kind="xterm")
    assert "last words" in shown
    assert "my-task" in shown
    assert "0 calls in flight" in shown
    assert "view     http://127.0.0.1:" in shown
    assert "1 of 1 in" in shown
    again = evaluated("--live", "--quiet", "--resume")
    assert again.returncode == 2
    assert "--live and --quiet exclude each other" in again.stderr


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["eval", *arguments])
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.parametrize(("arguments", "text"), [
    (["none.jsonl"], "there is no file 'none.jsonl'"),
    (["tasks.jsonl", "--scorer", "Includes"], "there is no such scorer; did you mean includes?"),
    (["tasks.jsonl", "--scorer", "file"], "--scorer file needs the path of a file in the agent's"),
    (["tasks.jsonl", "--scorer", "no.py:x"], "the file no.py does not exist"),
    (["tasks.jsonl", "--scorer", "mine.py:x"], "--scorer"),
    (["tasks.jsonl", "--scorer", "regex:("], "--scorer regex:(: "),
    (["tasks.jsonl", "--task-id", "z"], "there is no task with the id 'z'"),
    (["tasks.jsonl", "--resume"], "--resume: there is no run in run to continue"),
    (["tasks.jsonl", "--retry-errors"], "--retry-errors: there is no run in run to continue"),
    (["bad.jsonl"], "bad.jsonl:2: bad.jsonl:1 has the same id, 'a': ids must differ"),
    (["plain.jsonl"], "--scorer is missing, and not every task has a check command"),
    (["plain.jsonl", "--scorer", "exact"], "plain.jsonl:1: task '1': it has no target"),
])  # fmt: skip
def test_what_is_wrong_is_reported_before_an_agent_starts(
    folder: Path, arguments: list[str], text: str
) -> None:
    write_tasks({"id": "a", "prompt": "say it"})
    (folder / "bad.jsonl").write_text('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}\n')
    (folder / "plain.jsonl").write_text('{"prompt": "x"}\n')
    (folder / "mine.py").write_text("y = 1\n")
    output = refused(*arguments, *USUAL, *AGENT)
    assert text in " ".join(output.split())
    assert not (folder / "run").exists()


def test_without_a_store_a_directory_is_made_and_named(folder: Path) -> None:
    write_tasks({"id": "a", "prompt": "say it"})
    run = triocept(
        "eval", "tasks.jsonl", "--engine", "in-process:1", "--script", "script.yaml", *AGENT, timeout=90
    )
    assert run.returncode == 0, run.stderr
    (store,) = (folder / "runs").iterdir()
    assert store.name.startswith("tasks-2")
    assert f"▸ store    runs/{store.name}" in run.stderr


@pytest.mark.slow
def test_killed_twice_and_resumed_each_sample_is_scored_once(folder: Path) -> None:
    write_tasks(*({"id": f"t{number}", "prompt": "say it"} for number in range(30)))
    words = [sys.executable, "-m", "triocept", "eval", "tasks.jsonl", *USUAL, "--engine", "processes:2"]
    words += ["--slots-per-worker", "2", "--samples", "2"]
    done = folder / "run/done.jsonl"
    for wanted in (5, 20):
        with subprocess.Popen([*words, *(["--resume"] if done.exists() else []), *AGENT]) as process:
            deadline = time.monotonic() + 60
            while not done.exists() or done.read_bytes().count(b"\n") < wanted:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
    between = read_results("run")
    assert 20 <= len(between.scored) < 60
    run = subprocess.run(
        [*words, "--resume", *AGENT], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    results = read_results("run")
    assert results.values("check") == {f"t{number}": [1.0, 1.0] for number in range(30)}
    assert {sample.attempts for sample in results.samples} == {1}
    lines = [json.loads(line) for line in done.read_text().splitlines()]
    assert len({(line["key"], line["sample"]) for line in lines}) == len(lines) == 60


def test_a_failed_scorer_and_a_changed_one_score_the_recorded_samples_again_without_the_agent(
    folder: Path,
) -> None:
    write_tasks(*({"id": name, "prompt": "say it", "target": "hello"} for name in ("a", "b")))
    mine = folder / "mine.py"
    mine.write_text(
        "def length(trace, task, workdir, *, answer):\n    return len(answer) / (task.id == 'a')\n"
    )
    options = ("--scorer", "mine.py:length", "--scorer", "includes", "--engine", "processes:1")
    first = evaluated(*options)
    assert first.returncode == 1
    assert "b/0: scorer failed: the scorer length raised ZeroDivisionError" in first.stderr
    assert (
        "1 of 2 samples lack a score\n▸ to run them again, use the same command with --retry-errors"
        in first.stderr
    )
    mine.write_text("def length(trace, task, workdir, *, answer):\n    return len(answer)\n")
    retried = evaluated(*options, "--retry-errors")
    assert retried.returncode == 0, retried.stderr
    assert "they are run again, 1 of them without their agents, because only scorers failed" in retried.stderr
    mine.write_text("def length(trace, task, workdir, *, answer):\n    return -len(answer)\n")
    again = evaluated(*options[:2], "--engine", "processes:1", "--rescore")
    assert again.returncode == 0, again.stderr
    assert "2 of 2 samples are scored again; no agent runs" in again.stderr
    results = read_results("run")
    assert results.values("length") == {"a": [-5.0], "b": [-5.0]}
    assert results.values("includes") == {"a": [1.0], "b": [1.0]}
    assert {sample.attempts for sample in results.samples} == {1}
    resumed = evaluated(*options, "--rescore", "--resume")
    assert (resumed.returncode, "the scorer includes differs now" in resumed.stderr) == (2, True)
    assert evaluated(*options[:2], "--engine", "processes:1", "--rescore", "--resume").returncode == 0
    mine.write_text("def length(trace, task, workdir, *, answer):\n    return 7\n")
    resumed = evaluated(*options[:2], "--engine", "processes:1", "--rescore", "--resume")
    assert (resumed.returncode, "the scorer length differs now" in resumed.stderr) == (2, True)
    both = evaluated(*options, "--rescore", "--retry-errors")
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)


def test_a_check_whose_directory_was_not_kept_keeps_its_score_and_the_status_is_1(
    folder: Path,
) -> None:
    write_tasks({"id": "a", "prompt": "say it"})
    assert evaluated().returncode == 0
    again = evaluated("--rescore")
    assert again.returncode == 1
    assert "▸ check: 1 of 1 samples keep their earlier score, because the store did not keep" in again.stderr
    assert read_results("run").values("check") == {"a": [1.0]}
    assert evaluated("--resume").returncode == 0
    shutil.rmtree("run")
    kept = evaluated("--keep-workdirs")
    assert kept.returncode == 0, kept.stderr
    again = evaluated("--rescore")
    assert again.returncode == 0, again.stderr
    assert read_results("run").values("check") == {"a": [1.0]}


def test_the_status_counts_the_scorers_of_the_command_and_a_failed_rescoring_is_done_again(
    folder: Path,
) -> None:
    write_tasks(*({"id": name, "prompt": "say it"} for name in ("a", "b", "c")))
    mine = folder / "mine.py"
    mine.write_text("def mine(trace, task, workdir):\n    return 1 / (task.id != 'b')\n")
    assert evaluated().returncode == 0
    added = ("--scorer", "mine.py:mine", "--rescore")
    part = evaluated(*added, "--limit", "1")
    assert part.returncode == 1
    assert "▸ mine: 1 of 3 samples have its score; the others: 2 not scored\n" in part.stderr
    failed = evaluated(*added)
    assert failed.returncode == 1
    assert "▸ mine: 2 of 3 samples have its score; the others: 1 scorer failed\n" in failed.stderr
    assert (
        "▸ repair failed scorers, and use the same command with --rescore, without --resume" in failed.stderr
    )
    assert "--retry-errors" not in failed.stderr
    assert "\nof 3 samples, scored: 3 by check, 2 by mine\n" in triocept("stats", "run", timeout=60).stdout
    for option in ("--resume", "--retry-errors"):
        first = evaluated(option)
        assert first.returncode == 0, "without the added scorer"
    mine.write_text("def mine(trace, task, workdir):\n    return 1\n")
    assert evaluated(*added).returncode == 0
    assert evaluated("--scorer", "check", *added[:2], "--resume").returncode == 0, "with both scorers"
