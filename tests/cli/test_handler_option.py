"""`--handler FILE:NAME`: a handler of the user's own answers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import AGENT, PATIENCE

from tests.cli.cli_forks import triocept
from triocept.fleets import read_results

pytestmark = pytest.mark.once

HANDLERS = """
import beside
from contextlib import asynccontextmanager
from dataclasses import dataclass

async def answer(exchange):
    await exchange.respond(beside.TEXT)

def made():
    return answer

async def awaited():
    return answer

@asynccontextmanager
async def opened():
    print("opened", flush=True)
    yield answer
    print("closed", flush=True)

@dataclass
class Counting:
    count: int = 0

    async def __call__(self, exchange):
        self.count += 1
        await exchange.respond(f"answer {self.count}")

instance = Counting()
number = 3

async def broken(exchange):
    raise KeyError("no such thing")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(HANDLERS)
    (tmp_path / "beside.py").write_text("TEXT = 'from beside'")
    (tmp_path / "slip.py").write_text("x = 1\ndef answer(:\n")
    (tmp_path / "fails.py").write_text("x = 1\nx.missing\n")
    (tmp_path / "script.yaml").write_text("- hello\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ("--", sys.executable, "-c", AGENT, "0", "a", "b")
    return triocept("run", *arguments, *command, timeout=60, cwd=folder)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("answer", "said: from beside\nsaid: from beside\n"),
        ("made", "said: from beside\nsaid: from beside\n"),
        ("awaited", "said: from beside\nsaid: from beside\n"),
        ("opened", "opened\nsaid: from beside\nsaid: from beside\nclosed\n"),
        ("Counting", "said: answer 1\nsaid: answer 2\n"),
        ("instance", "said: answer 1\nsaid: answer 2\n"),
    ],
)
def test_a_handler_of_a_file_answers(name: str, output: str, folder: Path) -> None:
    done = run(folder, "--handler", f"mine.py:{name}")
    assert (done.returncode, done.stdout) == (0, output), done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--handler", "mine.py"), "the name of the handler is missing in 'mine.py': write mine.py:NAME"),
        (("--handler", "none.py:answer"), "File 'none.py' does not exist"),
        (("--handler", "script.yaml:answer"), "'script.yaml' is not a Python file (*.py)"),
        (("--handler", "mine.py:a-b"), "'a-b' is not a Python name"),
        (("--handler", "mine.py:answr"), "there is no 'answr' in mine.py; did you mean answer?"),
        (("--handler", "mine.py:number"), "a handler must be `async def handler(exchange)`; 3 cannot"),
        (("--handler", "slip.py:answer"), "--handler slip.py, line 2: "),
        (("--handler", "mine.py:answer", "--script", "script.yaml"), "--script and --handler exclude each other"),
        (("--handler", "mine.py:answer", "--upstream", "http://127.0.0.1:1"), "--handler and --upstream exclude"),
    ],
)  # fmt: skip
def test_a_wrong_handler_is_described_and_no_agent_starts(
    arguments: tuple[str, ...], text: str, folder: Path
) -> None:
    done = run(folder, *arguments)
    assert text in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "line"), [("fails.py:x", "x.missing"), ("mine.py:broken", "raise KeyError")]
)
def test_an_error_of_the_file_shows_its_own_lines_alone(name: str, line: str, folder: Path) -> None:
    done = run(folder, "--handler", name)
    assert done.returncode == 1
    error = re.split(r"^Error: ", done.stderr, maxsplit=1, flags=re.MULTILINE)[-1]
    assert error.startswith(f"the script {name.partition(':')[0]} failed:\nTraceback")
    assert line in error
    assert error.count("File ") == 1


def test_a_handler_answers_after_a_replay(folder: Path) -> None:
    assert run(folder, "--handler", "mine.py:instance", "--record", "t.jsonl").returncode == 0
    done = run(folder, "--replay", "t.jsonl", "--until", "1", "--handler", "mine.py:answer")
    assert done.stdout == "said: answer 1\nsaid: from beside\n", done.stderr
    done = run(folder, "--replay", "t.jsonl", "--until", "1")
    assert "--script FILE, --handler FILE:NAME or --upstream URL" in done.stderr


@pytest.mark.parametrize("engine", ["in-process:2", "processes:1"])
def test_each_rollout_of_a_fleet_gets_its_own_handler(engine: str, folder: Path) -> None:
    (folder / "tasks.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in "abc"))
    fleet = ("fleet", "--tasks", "tasks.jsonl", "--store", "store", "--engine", engine)
    command = ("--", sys.executable, "-c", AGENT, "0", "{prompt}", "again")
    done = triocept(*fleet, "--handler", "mine.py:Counting", *command, timeout=PATIENCE, cwd=folder)
    assert done.returncode == 0, done.stderr
    outputs = [result.value["output"] for result in read_results(folder / "store")]
    assert outputs == ["said: answer 1\nsaid: answer 2\n"] * 3
    resumed = triocept(*fleet, "--resume", "--handler", "mine.py:answer", *command, timeout=60, cwd=folder)
    assert resumed.returncode == 1
    assert "handler" in resumed.stderr


@pytest.mark.parametrize("option", ["--script", "--handler"])
def test_a_file_beside_the_users_file_is_preferred_to_an_installed_package(
    option: str, tmp_path: Path
) -> None:
    """As for a file that python runs. `iniconfig` is a package that pytest needs and triocept does not."""
    folder, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "iniconfig.py").write_text("TEXT = 'from beside'")
    (folder / "mine.py").write_text(
        "import iniconfig\nreplies = [iniconfig.TEXT]\nasync def answer(e): await e.respond(iniconfig.TEXT)\n"
    )
    file = f"{folder / 'mine.py'}{':answer' if option == '--handler' else ''}"
    agent = ("--", sys.executable, "-c", AGENT, "0", "a")
    done = triocept("run", "--quiet", option, file, *agent, timeout=60, cwd=elsewhere)
    assert (done.returncode, done.stdout) == (0, "said: from beside\n"), done.stderr


def test_a_file_hides_no_module_that_triocept_needs(tmp_path: Path) -> None:
    """The names are those of a dependency and of a module of Python that are imported late."""
    for name in ("h2", "calendar", "http", "h11"):
        (tmp_path / f"{name}.py").write_text(
            "from near import TEXT\nasync def answer(e): await e.respond(TEXT)\n"
        )
    (tmp_path / "near.py").write_text("TEXT = 'from beside'")
    (tmp_path / "agent").mkdir()
    program = str(Path(sys.executable).with_name("triocept"))
    command = [program, "run", "--quiet", "--cwd", "agent", "--handler"]
    agent = ("--", sys.executable, "-c", AGENT, "0", "a")
    for name in ("h2", "h11"):
        done = subprocess.run(
            [*command, f"{name}.py:answer", *agent],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "said: from beside\n"), done.stderr
