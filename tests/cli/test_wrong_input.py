"""Mistyped names, wrong paths and wrong URLs: status 2, and an error that names what to do."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import triocept
from tests.cli.cli_forks import triocept as forked
from triocept._cli import main
from triocept._cli.ending import _AS_OPTIONS

pytestmark = pytest.mark.once

RUN = ("run", "--")
FLEET = ("fleet", "--tasks", "tasks.jsonl", "--store", "store")
COMMAND = ("--", "true", "{prompt}")
WRONG = [
    (("run", "--script", "none.py", "--", "true"), "File 'none.py' does not exist"),
    (("run", "--script", "folder", "--", "true"), "File 'folder' is a directory"),
    (("run", "--replay", "none.jsonl", "--", "true"), "File 'none.jsonl' does not exist"),
    (("run", "--prices", "none.json", "--", "true"), "File 'none.json' does not exist"),
    (("run", "--record", "none/t.jsonl", "--", "true"), "there is no directory none; create it"),
    (("run", "--record", "folder", "--", "true"), "File 'folder' is a directory"),
    (("run", "--record", "tasks.jsonl", "--", "true"), "tasks.jsonl is not a trace file"),
    (("run", "--record-once", "none/t.jsonl", "--", "true"), "there is no directory none; create it"),
    (("run", "--", "no-such-program"), "there is no program 'no-such-program' on the PATH: install it"),
    (("run", "--", "./none"), "the program './none' does not exist: correct the path"),
    (("run", "--", "./folder"), "the program './folder' is a directory"),
    (("run", "--", "./tasks.jsonl"), "the file './tasks.jsonl' is not executable: run chmod +x"),
    (("run", "--agent", "codex", "--executable", "./none", "--", "x"), "the program './none' does not exist"),
    (("run", "--upstream", "localhost:8000", "--", "true"), "did you mean http://localhost:8000?"),
    (("run", "--upstream", "ftp://localhost", "--", "true"),
     "must be an http or https URL, not 'ftp://localhost'"),
    (("run", "--upstream", "http://me:secret@localhost", "--", "true"), "with --api-key-env"),
    (("run", "--upstream", "http://localhost:99999/v1", "--", "true"), "not 'http://localhost:99999/v1'"),
    (("run", "--upstream", "http://localhost/v1/chat/completions", "--", "true"),
     "give the base URL, http://localhost/v1"),
    (("serve", "--script", "none.py"), "File 'none.py' does not exist"),
    (("serve", "--record", "none/t.jsonl"), "there is no directory none; create it"),
    (("serve", "--upstream", "localhost:8000"), "did you mean http://localhost:8000?"),
    (("serve", "--prices", "folder"), "File 'folder' is a directory"),
    (("demo", "--record", "none/t.jsonl"), "there is no directory none; create it"),
    (("fleet", "--tasks", "none.jsonl", "--store", "store", *COMMAND), "File 'none.jsonl' does not exist"),
    (("fleet", "--tasks", "folder", "--store", "store", *COMMAND), "File 'folder' is a directory"),
    (("fleet", "--tasks", "tasks.jsonl", "--store", "tasks.jsonl", *COMMAND), "tasks.jsonl is a file"),
    (("fleet", "--tasks", "tasks.jsonl", "--store", "tasks.jsonl/a", *COMMAND), "tasks.jsonl is a file"),
    (("fleet", "--store", "tasks.jsonl", "--tasks", "none.jsonl", *COMMAND), "File 'none.jsonl' does not exist"),
    (("fleet", "--store", "tasks.jsonl", "--tasks", "empty.jsonl", *COMMAND), "contains no task"),
    (("fleet", "--store", "tasks.jsonl", "--tasks", "tasks.jsonl", "--script", "none.py", *COMMAND),
     "File 'none.py' does not exist"),
    (("fleet", "--store", "tasks.jsonl", "--tasks", "tasks.jsonl", "--", "./none", "{prompt}"), "correct the path"),
    ((*FLEET, "--workspace", "none", *COMMAND), "Directory 'none' does not exist"),
    ((*FLEET, "--workspace", "tasks.jsonl", *COMMAND), "Directory 'tasks.jsonl' is a file"),
    ((*FLEET, "--script", "none.py", *COMMAND), "File 'none.py' does not exist"),
    ((*FLEET, "--upstream", "localhost:8000", *COMMAND), "did you mean http://localhost:8000?"),
    ((*FLEET, "--upstream", "http://127.0.0.1:1", *COMMAND), "no server answers at 127.0.0.1:1"),
    ((*FLEET, "--", "./none", "{prompt}"), "does not exist: correct the path"),
    ((*FLEET, "--resume", *COMMAND), "there is no run in store to continue; omit --resume to start a run"),
    (("show", "none.jsonl"), "none.jsonl: No such file or directory"),
    (("show", "folder"), "folder is a directory: name the files in it"),
    (("diff", "none.jsonl", "0", "1"), "none.jsonl: No such file or directory"),
    (("diff", "folder", "0", "1"), "folder is a directory: name the files in it"),
    (("stats", "none.jsonl"), "none.jsonl: No such file or directory"),
    (("stats", "folder"), "folder is a directory: name the files in it"),
    (("check", "none.jsonl"), "none.jsonl: No such file or directory"),
    (("check", "folder"), "folder is a directory: name the files in it"),
    (("export", "--to", "jsonl", "none.jsonl", "-o", "out"), "none.jsonl: No such file or directory"),
    (("export", "--to", "jsonl", "folder", "-o", "out"), "folder is a directory: name the files in it"),
    (("export", "--to", "jsonl", "trace.jsonl", "-o", "tasks.jsonl/out"), "tasks.jsonl; create it, or name"),
    (("export", "--to", "jsonl", "trace.jsonl", "-o", "folder"), "folder exists already: name another file"),
    (("export", "--to", "jsonl", "trace.jsonl", "-o", "tasks.jsonl"), "or replace it with --force"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "folder").mkdir()
    (folder / "empty.jsonl").write_text("")
    (folder / "tasks.jsonl").write_text('{"prompt": "fix the bug"}\n')
    assert forked("demo", "--record", "trace.jsonl", timeout=60, cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize(("arguments", "text"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_path_or_url_ends_a_command_with_2(
    arguments: tuple[str, ...], text: str, folder: Path
) -> None:
    before = sorted(os.listdir(folder))
    done = forked(*arguments, timeout=60, cwd=folder)
    assert text in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert sorted(set(os.listdir(folder)) - {"store"}) == [name for name in before if name != "store"]


def error_of(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    return result.output.splitlines()[-1]


@pytest.mark.parametrize(("arguments", "suggestion"), [
    (("run", "--agent", "claude", "--", "x"), "did you mean claude-code?"),
    (("run", "--agent", "Claude_Code", "--", "x"), "did you mean claude-code?"),
    (("run", "--agent", "vibe", "--", "x"), "did you mean mistral-vibe?"),
    (("run", "--upstream-dialect", "anthropic", "--", "x"), "did you mean anthropic-messages?"),
    (("run", "--tokens", "vlm", "--", "x"), "did you mean vllm?"),
    (("run", "--match", "nearst", "--", "x"), "did you mean nearest?"),
    (("run", "--sampling", "top-p=1", "--", "x"), "did you mean top_p?"),
    (("run", "--scrpt", "x.py", "--", "x"), "--script"),
    (("export", "--to", "inspct", "x.jsonl", "-o", "-"), "did you mean inspect?"),
    (("stats", "--by", "modle", "x.jsonl"), "did you mean model?"),
    (("shwo", "x.jsonl"), "there is no command 'shwo'; did you mean show?"),
    (("xyzzy",), "triocept --help lists the commands"),
    ((os.path.basename(sys.executable), "-c", "pass"), "to run python as an agent: triocept run -- python"),
])  # fmt: skip
def test_a_mistyped_name_gets_a_suggestion(
    arguments: tuple[str, ...], suggestion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    assert suggestion in error_of(*arguments)


def commands() -> list[tuple[str, click.Command]]:
    return [("", main), *main.commands.items()]


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name or "triocept" for name, _ in commands()])
def test_the_help_of_a_command_fits_80_columns(name: str, command: click.Command) -> None:
    lines = CliRunner().invoke(main, [name, "--help"] if name else ["--help"]).output.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert not any("..." in line for line in lines) or name or "..." not in "".join(lines[5:])
    for option in command.params:
        metavar = option.make_metavar(click.Context(command))
        assert metavar == metavar.upper() or (isinstance(option, click.Option) and option.is_flag), metavar


def test_the_options_of_run_are_in_groups() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).output
    titles = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [
        "Agent", "Model", "Real model", "Recorded run", "Approval", "Limits of a run", "Record", "Endpoint",
        "Other options",
    ]  # fmt: skip
    assert "If the agent still runs 10 s later" in " ".join(text.split())


def test_each_command_has_a_short_help_that_is_not_cut() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for name, command in main.commands.items():
        assert command.short_help
        assert f"{name:<8} {command.short_help}" in text
    assert CliRunner().invoke(main, ["-V"]).output == CliRunner().invoke(main, ["--version"]).output


def test_bash_completes_the_name_of_an_agent() -> None:
    """With the line of the page on shell completion."""
    page = (Path(__file__).parents[2] / "docs/reference/shell-completion.md").read_text()
    (line,) = [
        line.strip() for line in page.splitlines() if line.strip().startswith('eval "$(') and "bash" in line
    ]
    words = "COMP_WORDS=(triocept run --agent cl); COMP_CWORD=3"
    code = f'{line}\n{words}; _triocept_completion triocept; echo "${{COMPREPLY[@]}}"'
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", code],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout.split() == ["claude-code", "cline"], done.stderr


def _raised_texts() -> Iterator[str]:
    """Yield the texts in the package's code, with the number 1 for each value in them."""
    for path in Path(triocept.__file__).parent.rglob("*.py"):
        if path.name == "ending.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else 1 for part in parts]
            if any(isinstance(text, str) for text in texts):
                yield "".join(str(text) for text in texts)


def test_each_advice_that_is_replaced_is_in_a_text_of_today() -> None:
    texts = list(_raised_texts())
    stale = [pattern for pattern, _ in _AS_OPTIONS if not any(re.search(pattern, text) for text in texts)]
    assert not stale
