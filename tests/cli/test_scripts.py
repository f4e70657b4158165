"""Scripts in files on the command line: run, served, and watched while agents ask."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest

from tests.cli.cli_helpers import AGENT, PATIENCE, STARTER

pytestmark = pytest.mark.once

RULES = """
- when: {text: joke}
  cycle: [one, two]
- otherwise: "other"
"""


def triocept(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triocept", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def run(script: Path, *texts: str) -> subprocess.CompletedProcess[str]:
    return triocept("run", "--script", script, "--", sys.executable, "-c", AGENT, "0", *texts)


def written(folder: Path, text: str, name: str = "s.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_run_answers_by_a_script_in_yaml(tmp_path: Path) -> None:
    done = run(written(tmp_path, RULES), "joke", "x", "a joke", "joke")
    assert done.stdout == "said: one\nsaid: other\nsaid: two\nsaid: one\n", done.stderr
    assert "of the script left" not in done.stderr


def test_run_answers_by_fixtures_and_says_what_may_not_be_meant(tmp_path: Path) -> None:
    text = '{"fixtures": [{"match": {}, "response": {"content": "hi", "created": 3}}]}'
    done = run(written(tmp_path, text, "f.json"), "a", "b")
    assert done.stdout == "said: hi\nsaid: hi\n", done.stderr
    assert "f.json: left out of what is answered, since it has no place here: created" in done.stderr
    assert "ScriptWarning" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "- when: {txet: a}\n  reply: b",
            r"^Error: .*s.yaml:1: \[0\].when.txet: there is no 'txet' here: text\?$",
        ),
        (
            "- otherwise: a\n- b",
            r"^Error: .*s.yaml: replies\[1\], given to every request, is never reached: ",
        ),
        ("- a\n- 'b", r"^Error: .*s.yaml:2: this is no YAML"),
    ],
)
def test_an_error_in_a_script_is_a_line_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    done = run(written(tmp_path, text), "a")
    assert done.returncode == 1
    assert re.search(words, done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


def test_replies_that_nobody_asked_for_are_named(tmp_path: Path) -> None:
    done = run(written(tmp_path, "- a\n- when: {text: z}\n  replies: [b, c]\n"), "x")
    assert "2 replies of the script left: nobody asked" in done.stderr
    assert re.search(r"replies\[1\], when\(text='z'\) \(.*s.yaml:2\), reply 1: 'c'", done.stderr), done.stderr


def test_watching_needs_a_script() -> None:
    done = triocept("serve", "--watch")
    assert done.returncode == 2
    assert "--watch looks at a script" in done.stderr


class Served:
    """`triocept serve --watch`, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.variables: dict[str, str] = {}
        self._lines: Queue[str] = Queue()
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                self.variables[name] = value
            if line.startswith("export DISABLE_AUTOUPDATER"):
                break
        Thread(target=self._read, args=[process.stderr], daemon=True).start()

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            self._lines.put(line)

    def wait_for(self, words: str) -> str:
        """The line of its screen that has these words."""
        while True:
            line = self._lines.get(timeout=30)
            if words in line:
                return line

    def ask(self, *texts: str) -> str:
        env = {**os.environ, **self.variables}
        command = [sys.executable, "-c", AGENT, "0", *texts]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=env)
        return done.stdout or done.stderr


@contextmanager
def watching(script: Path, *options: str) -> Iterator[Served]:
    command = [sys.executable, "-c", STARTER, "", "serve", "--script", str(script), "--watch", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Served(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
    assert process.returncode == -signal.SIGINT


@pytest.mark.once
def test_a_script_is_read_anew_when_it_changes_and_an_error_leaves_it_as_it_was(tmp_path: Path) -> None:
    script = written(tmp_path, "- otherwise: before")
    with watching(script) as served:
        assert served.ask("a", "b") == "said: before\nsaid: before\n"
        script.write_text("- otherwise: {txet: after}")
        assert "s.yaml:1: [0].otherwise.txet: not a reply" in served.wait_for("txet")
        served.wait_for("the script as it was before goes on answering")
        assert served.ask("c") == "said: before\n"
        other = written(tmp_path, "- when: {text: d}\n  reply: after\n", "other.yaml")
        other.replace(script)  # as editors do it
        assert "1 of 1 replies left" in served.wait_for("was read anew")
        assert served.ask("d") == "said: after\n"
        assert "404" in served.ask("d")
        served.wait_for("the script has no reply for this request")
        script.unlink()
        script.write_text("- otherwise: again")
        served.wait_for("was read anew")
        assert served.ask("e") == "said: again\n"


@pytest.mark.once
def test_a_python_script_that_fails_is_told_and_asked_again_when_it_is_mended(tmp_path: Path) -> None:
    script = written(tmp_path, "def answer(request):\n    return 1 / 0\n\nreplies = [answer] * 9\n", "s.py")
    with watching(script, "--quiet") as served:
        assert "500" in served.ask("a")
        served.wait_for("ZeroDivisionError")
        script.write_text("import sys\nsys.exit('not now')\n")
        served.wait_for("not now")
        script.write_text("replies = ['fine']\n")
        answers = (served.ask("b") for _ in range(60))
        assert any(answer == "said: fine\n" for answer in answers)


def test_a_script_to_be_watched_that_is_wrong_from_the_beginning_is_an_error(tmp_path: Path) -> None:
    done = triocept("serve", "--watch", "--script", written(tmp_path, "- {a: b}"))
    assert done.returncode == 1
    assert "s.yaml:1: [0].a: not a reply" in done.stderr
