"""Scripts in files on the command line: run, served, and watched while agents ask."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
import trio
import trio.testing

from tests.cli.cli_forks import triocept as forked
from tests.cli.cli_helpers import AGENT, PATIENCE, STARTER
from triocept._cli.watch import WatchedScript

pytestmark = pytest.mark.once

RULES = """
- when: {text: joke}
  cycle: [one, two]
- otherwise: "other"
"""


def triocept(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return forked(*arguments, timeout=PATIENCE)


def run(script: Path, *texts: str) -> subprocess.CompletedProcess[str]:
    return triocept("run", "--script", script, "--", sys.executable, "-c", AGENT, "0", *texts)


def written(folder: Path, text: str, name: str = "s.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_run_answers_by_a_script_in_yaml(tmp_path: Path) -> None:
    done = run(written(tmp_path, RULES), "joke", "x", "a joke", "joke")
    assert done.stdout == "said: one\nsaid: other\nsaid: two\nsaid: one\n", done.stderr
    assert "of the script w" not in done.stderr


def test_run_answers_by_fixtures_and_says_what_may_not_be_meant(tmp_path: Path) -> None:
    text = '{"fixtures": [{"match": {}, "response": {"content": "hi", "created": 3}}]}'
    done = run(written(tmp_path, text, "f.json"), "a", "b")
    assert done.stdout == "said: hi\nsaid: hi\n", done.stderr
    assert "f.json: these fields of answers are not supported, and were ignored: created" in done.stderr
    assert "ScriptWarning" not in done.stderr


@pytest.mark.parametrize(("text", "words"), [
    ("- when: {txet: a}\n  reply: b",
     r"^Error: .*s.yaml:1: \[0\].when.txet: there is no key 'txet' here; did you mean text\?$"),
    ("- otherwise: a\n- b", r"^Error: .*s.yaml: a rule \(replies\[1\], given to every request\) is never used, "),
    ("- a\n- 'b", r"^Error: .*s.yaml:2: this is not YAML"),
])  # fmt: skip
def test_an_error_in_a_script_is_a_line_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    done = run(written(tmp_path, text), "a")
    assert done.returncode == 1
    assert re.search(words, done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


def test_replies_that_nobody_asked_for_are_named(tmp_path: Path) -> None:
    done = run(written(tmp_path, "- a\n- when: {text: z}\n  replies: [b, c]\n"), "x")
    assert "2 of 3 replies of the script were not used, because the agent ended before" in done.stderr
    assert re.search(r"replies\[1\], when\(text='z'\) \(.*s.yaml:2\), reply 1: 'c'", done.stderr), done.stderr


def test_watching_needs_a_script() -> None:
    done = triocept("serve", "--watch")
    assert done.returncode == 2
    assert "--watch needs a script that it can reload" in done.stderr


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
            line = self._lines.get(timeout=60)
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
        assert "s.yaml:1: [0].otherwise.txet: a reply cannot have the key 'txet'" in served.wait_for("txet")
        served.wait_for("the previous version of the script continues to answer")
        assert served.ask("c") == "said: before\n"
        other = written(tmp_path, "- when: {text: d}\n  reply: after\n", "other.yaml")
        other.replace(script)  # as editors do it
        assert "1 of 1 replies left" in served.wait_for("was reloaded")
        assert served.ask("d") == "said: after\n"
        assert "404" in served.ask("d")
        served.wait_for("the script has no reply for this request")
        script.unlink()
        served.wait_for("s.yaml does not exist any more")
        served.wait_for("the previous version of the script continues to answer")
        assert "404" in served.ask("d")
        script.write_text("- otherwise: again")
        assert "one answers any number of times" in served.wait_for("was reloaded")
        assert served.ask("e") == "said: again\n"
        script.unlink()
        script.mkdir()
        served.wait_for("s.yaml: Is a directory")
        served.wait_for("the previous version of the script continues to answer")
        assert served.ask("e") == "said: again\n"


@pytest.mark.once
def test_a_watched_script_begins_anew_when_it_is_reset_with_the_key(tmp_path: Path) -> None:
    script = written(tmp_path, "- when: {text: a}\n  replies: [one, two]")
    with watching(script) as served:
        for _ in range(2):
            assert served.ask("a", "a") == "said: one\nsaid: two\n"
            assert "404" in served.ask("a")
            with pytest.raises(urllib.error.HTTPError, match="401"):
                reset(served, key="wrong")
            assert "404" in served.ask("a")
            reset(served)
            served.wait_for("was reloaded")


@pytest.mark.once
def test_the_last_good_script_begins_anew_when_a_reset_finds_no_file(tmp_path: Path) -> None:
    script = written(tmp_path, "- when: {text: a}\n  replies: [one]")
    with watching(script) as served:
        assert served.ask("a") == "said: one\n"
        script.unlink()
        served.wait_for("does not exist any more")
        reset(served)
        assert served.ask("a") == "said: one\n"


def reset(served: Served, **given: str) -> None:
    url, key = (served.variables[name].strip("'") for name in ("TRIOCEPT_URL", "TRIOCEPT_API_KEY"))
    head = {"authorization": f"Bearer {given.get('key', key)}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/reset", b"", head), timeout=30) as answer:
        assert json.load(answer) == {"reset": True}


def fixtures(*vectors: list[float]) -> str:
    chat = {"match": {"userMessage": "a"}, "response": {"content": "b"}}
    of = [{"match": {"inputText": f"text {n}"}, "response": {"embedding": v}} for n, v in enumerate(vectors)]
    return json.dumps({"fixtures": [chat, *of]})


def embed(served: Served, text: str) -> list[float]:
    url = served.variables["OPENAI_BASE_URL"].strip("'")
    key = served.variables["OPENAI_API_KEY"].strip("'")
    body = json.dumps({"model": "m", "input": text}).encode()
    head = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{url}/embeddings", body, head)
    with urllib.request.urlopen(request, timeout=30) as answer:
        vector: list[float] = json.load(answer)["data"][0]["embedding"]
        return vector


@pytest.mark.once
def test_embeddings_of_fixtures_are_given_and_read_anew(tmp_path: Path) -> None:
    script = written(tmp_path, fixtures([1.0, 0.0], [0.0, 1.0]), "s.json")
    with watching(script) as served:
        assert embed(served, "a text 1") == [0.0, 1.0]
        assert len(embed(served, "another")) == 2
        script.write_text(fixtures([0.5, 0.5, 0.0]))
        served.wait_for("was reloaded")
        assert embed(served, "text 0") == [0.5, 0.5, 0.0]
        script.write_text(fixtures())
        served.wait_for("was reloaded")
        assert len(embed(served, "text 0")) == 1536


async def looked_at(watched: WatchedScript) -> None:
    """Let it look at its file a few times; with a mock clock that takes none."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()


async def test_embeddings_that_come_later_are_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    script = written(tmp_path, fixtures(), "s.json")
    said: list[str] = []
    watched = WatchedScript(script, said.append, said.append)
    assert watched.embed is None
    script.write_text(fixtures([1.0]))
    await looked_at(watched)
    assert said[1:] == [
        f"{script} now contains embeddings, which are served only after you restart the command"
    ]


async def test_a_file_that_could_not_be_read_is_read_when_its_rights_are_mended(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = written(tmp_path, "- before")
    said: list[str] = []
    watched = WatchedScript(script, said.append, said.append)
    script.write_text("- after, and longer")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        await looked_at(watched)
    assert said == [
        f"Error: {script}: Permission denied",
        "the previous version of the script continues to answer",
    ]
    await looked_at(watched)
    assert len(said) == 2
    script.chmod(0o600)
    await looked_at(watched)
    assert "was reloaded: <ScriptedModel: 1 of 1 replies left>" in said[-1]
    script.chmod(0o644)  # of a good one that makes no difference: it does not begin anew
    await looked_at(watched)
    assert len(said) == 3


@pytest.mark.once
def test_a_command_that_runs_an_agent_has_the_embeddings_of_fixtures_too(tmp_path: Path) -> None:
    script = written(tmp_path, fixtures([0.25, 0.75]), "s.json")
    code = (
        "import json, os, urllib.request as u\n"
        "head = {'authorization': 'Bearer ' + os.environ['OPENAI_API_KEY'], 'content-type': 'application/json'}\n"
        "body = json.dumps({'model': 'm', 'input': 'text 0'}).encode()\n"
        "request = u.Request(os.environ['OPENAI_BASE_URL'] + '/embeddings', body, head)\n"
        "print(json.load(u.urlopen(request))['data'][0]['embedding'])\n"
    )
    done = triocept("run", "--script", script, "--", sys.executable, "-c", code)
    assert "[0.25, 0.75]" in done.stdout
    assert "are of embeddings" not in done.stderr


@pytest.mark.once
def test_a_python_script_that_fails_is_told_and_asked_again_when_it_is_mended(tmp_path: Path) -> None:
    script = written(tmp_path, "def answer(request):\n    return 1 / 0\n\nreplies = [answer] * 9\n", "s.py")
    with watching(script, "--quiet") as served:
        assert "500" in served.ask("a")
        served.wait_for("ZeroDivisionError")
        script.write_text("import sys\nreplies = sys.exit('not now')\n")
        served.wait_for("not now")
        script.write_text("replies = ['fine']\n")
        answers = (served.ask("b") for _ in range(60))
        assert any(answer == "said: fine\n" for answer in answers)


def test_a_script_to_be_watched_that_is_wrong_from_the_beginning_is_an_error(tmp_path: Path) -> None:
    done = triocept("serve", "--watch", "--script", written(tmp_path, "- {a: b}"))
    assert done.returncode == 1
    assert "s.yaml:1: [0].a: a reply cannot have the key 'a'" in done.stderr
