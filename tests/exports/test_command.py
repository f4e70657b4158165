"""`triocept export`: what is there afterwards is whole, and what is wrong is said in a line."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from tests.cli.cli_forks import triocept
from tests.exports.sample import child, sample, trace_of, turn
from triocept import JSONLRecorder, Response, Trace, read_traces
from triocept._cli.commands import main
from triocept.exports import FORMATS, write_export
from triocept.exports._formats import new_file, new_folder
from triocept.traces import Score

pytestmark = pytest.mark.once  # a program each
NEED = {"parquet": "pyarrow"}
"""By format: the package that it needs."""
HERE = [name for name in FORMATS if name not in NEED or find_spec(NEED[name])]
FILES = [name for name in HERE if FORMATS[name].write is not None]


def recorded(path: Path, *traces: Trace, seal: bool = True) -> Path:
    """These traces as a file."""

    async def main() -> None:
        recorder = JSONLRecorder(path)
        for trace in traces:
            for each in trace:
                await recorder.record(each)
            for call in trace.services:
                await recorder.record_service(call)
            if seal:
                await recorder.seal(trace)
        await recorder.aclose()

    trio.run(main)
    return path


def export(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return triocept("export", *arguments, cwd=cwd, timeout=60)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return recorded(tmp_path / "t.jsonl", sample())


@pytest.mark.parametrize("name", HERE)
def test_a_format_is_written(name: str, tmp_path: Path, file: Path) -> None:
    (trace,) = read_traces(file)
    write_export([trace, child()], name, tmp_path / "out")
    written = [tmp_path / "out"] if name in FILES else sorted((tmp_path / "out").iterdir())
    assert all(path.stat().st_size for path in written)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t.jsonl"], "nothing is left beside it"


@pytest.mark.parametrize("name", FILES)
def test_of_no_rollout_nothing_is_a_valid_file_too(name: str, tmp_path: Path) -> None:
    write_export([], name, tmp_path / "out")
    text = (tmp_path / "out").read_bytes()
    assert name == "parquet" or text == b"" or text.startswith(b"<!doctype html>") or json.loads(text)


def test_a_format_whose_package_is_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'triocept\[parquet\]'"):
        write_export([sample()], "parquet", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_last_word_says_what_was_lost(tmp_path: Path) -> None:
    file = recorded(tmp_path / "t.jsonl", sample())
    done = export("--to", "openai", file, "-o", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("▸ 8 turns of 1 rollout in out.jsonl; not in this format: ")
    assert "2 calls of custom tools" in last
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5


def test_the_score_that_is_the_reward_can_be_named_and_several_without_a_name_are_warned_of(
    tmp_path: Path,
) -> None:

    async def score() -> None:
        trace = sample()
        recorder = JSONLRecorder(tmp_path / "s.jsonl")
        for each in trace:
            await recorder.record(each)
        await recorder.seal(trace)
        for name, value in (("right", 0.75), ("tokens", 5000.0)):
            await recorder.record_entry(Score(rollout="r", run="run_1", name=name, value=value, at=3000.0))
        await recorder.aclose()

    trio.run(score)
    ask = ("--to", "verifiers", "s.jsonl", "-o", "out.jsonl", "--force")
    done = export(*ask, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "▸ the scores right, tokens all become metrics: name the score that is the reward (--reward)"
        in done.stderr
    )
    done = export(*ask, "--reward", "right", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (trace,) = json.loads((tmp_path / "out.jsonl").read_text())["traces"]
    assert (trace["rewards"], trace["metrics"]) == ({"right": {"score": 0.75}}, {"tokens": 5000})
    done = export("--to", "inspect", *ask[2:], "--reward", "right", cwd=tmp_path)
    assert (done.returncode, "--reward needs --to verifiers" in done.stderr) == (2, True)
    done = export(*ask, "--reward", "wrong", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: no rollout has the score 'wrong'")


def test_one_of_several_rollouts_can_be_chosen(tmp_path: Path) -> None:
    other = trace_of(turn(0, (), Response.of("ok"), rollout="other"), rollout="other")
    file = recorded(tmp_path / "t.jsonl", sample(), other)
    done = export("--to", "jsonl", file, "-o", "out.jsonl", "--rollout", "other", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert row["rollout"] == "other"
    done = export("--to", "jsonl", file, "-o", "none.jsonl", "--rollout", "third", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"Error: there is no rollout 'third' in {file}; the rollouts are other, r\n"
    assert not (tmp_path / "none.jsonl").exists()


def test_a_rollout_that_is_not_sealed_is_told_and_written(tmp_path: Path) -> None:
    file = recorded(tmp_path / "t.jsonl", sample(), seal=False)
    file.write_bytes(file.read_bytes() + b'{"type":"turn","vers')
    done = export("--to", "jsonl", file, "-o", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "▸ rollout r is not sealed: some of its turns may be missing" in done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 8


def test_lines_that_cannot_be_read_are_told_and_the_rest_is_written(tmp_path: Path) -> None:
    file = recorded(tmp_path / "t.jsonl", sample())
    file.write_bytes(b"junk\n" * 12 + file.read_bytes())
    done = export("--to", "jsonl", file, "-o", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"▸ {file}:1: " in done.stderr
    assert "▸ and 2 lines that cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_trace_is_said_in_a_line_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "text").write_text("hello\nworld\n")
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "folder").mkdir()
    said = {
        "empty": "there is no rollout in empty",
        "text": "text: this is not a trace file: its first line is 'hello'",
        "bytes": "bytes: this is not a trace file: its first line is",
        "folder": "folder is a directory",
        "missing": "missing: No such file or directory",
    }
    for name, text in said.items():
        done = export("--to", "jsonl", name, "-o", "out.jsonl", cwd=tmp_path)
        assert done.returncode == (2 if name in ("folder", "missing") else 1), name
        assert done.stderr.startswith(f"Error: {text}"), done.stderr
        assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "empty", "folder", "text"]


def test_a_format_that_there_is_none_of_is_said_with_those_that_there_are(tmp_path: Path, file: Path) -> None:
    done = export("--to", "xml", file, "-o", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "'xml' is not one of" in done.stderr
    assert ", inspect, " in done.stderr
    with pytest.raises(ValueError, match="unknown format 'xml'; the formats are jsonl, "):
        write_export([], "xml", tmp_path / "out")


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path, file: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    done = export("--to", "jsonl", file, "-o", out, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"Error: {out} exists already: name another file, or replace it with --force\n"
    assert out.read_text() == "mine"
    assert export("--to", "jsonl", file, "-o", out, "--force", cwd=tmp_path).returncode == 0
    assert out.read_text().startswith('{"rollout":"r"')


def test_a_folder_that_is_there_is_never_replaced(tmp_path: Path, file: Path) -> None:
    (tmp_path / "out").mkdir()
    done = export("--to", "atif", file, "-o", "out", "--force", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "Error: out exists already: name another file\n"
    done = export("--to", "jsonl", file, "-o", "out", "--force", cwd=tmp_path)
    assert done.stderr == "Error: out: Is a directory\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_several_files_are_one_export(tmp_path: Path, file: Path) -> None:
    other = recorded(tmp_path / "other.jsonl", trace_of(turn(0, (), Response.of("ok"))))
    done = export("--to", "jsonl", file, other, "-o", "out", cwd=tmp_path)
    assert len((tmp_path / "out").read_text().splitlines()) == 9, done.stderr
    done = export("--to", "jsonl", file, other, "--rollout", "no", "-o", "no", cwd=tmp_path)
    assert f"no rollout 'no' in {file}, {other}; " in done.stderr


def test_a_directory_is_told_what_to_give_instead(tmp_path: Path) -> None:
    done = export("--to", "jsonl", tmp_path, "-o", "out", cwd=tmp_path)
    hint = f"is a directory: name the files in it, as in {tmp_path}/*.jsonl"
    assert (done.returncode, done.stderr) == (2, f"Error: {tmp_path} {hint}\n")


def test_what_is_no_file_is_never_replaced(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = export("--to", "jsonl", file, "-o", "pipe", "--force", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "Error: pipe exists already: name another file\n"
    assert (tmp_path / "pipe").is_fifo()


def test_of_a_link_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    there = tmp_path / "folder" / "out.jsonl"
    there.write_text("mine")
    (tmp_path / "link").symlink_to(there)
    write_export([sample()], "jsonl", tmp_path / "link", replace=True)
    assert (tmp_path / "link").is_symlink()
    assert there.read_text().startswith('{"rollout":"r"')


def test_standard_output_needs_no_directory_that_can_be_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command would let SIGPIPE end this process
    done = CliRunner().invoke(main, ["export", "--to", "jsonl", str(file), "-o", "-"])
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 8), done.output


def test_a_dash_is_standard_output(tmp_path: Path, file: Path) -> None:
    done = export("--to", "jsonl", file, "-o", "-", cwd=tmp_path)
    assert [json.loads(line)["number"] for line in done.stdout.splitlines()] == list(range(8))
    assert done.stderr.startswith("▸ 8 turns of 1 rollout; not in this format: ")
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]
    done = export("--to", "atif", file, "-o", "-", cwd=tmp_path)
    assert (
        done.stderr
        == "Error: atif writes a directory, so it cannot use standard output: name a directory with -o\n"
    )


def test_a_reader_of_standard_output_that_has_gone_ends_it_without_a_word(tmp_path: Path) -> None:
    large = recorded(tmp_path / "t.jsonl", trace_of(turn(0, (), Response.of("x" * 1_000_000))))
    command = f"{sys.executable} -m triocept export --to jsonl {large} -o - | head -c 9"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == (b'{"rollout', b"")
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"], "nothing is left behind"


def test_a_place_that_cannot_be_written_is_named_and_missing_directories_are_created(
    tmp_path: Path, file: Path
) -> None:
    for to in ("jsonl", "atif"):
        for out in ("t.jsonl/out", "t.jsonl/none/out"):
            done = export("--to", to, file, "-o", out, cwd=tmp_path)
            assert done.returncode == 2
            error = f"{out}: there is no directory t.jsonl; create it, or name another file\n"
            assert done.stderr.endswith(error), done.stderr
        assert export("--to", to, file, "-o", f"none/{to}/out", cwd=tmp_path).returncode == 0
        assert (tmp_path / "none" / to / "out").exists()


def test_a_disk_that_is_full_is_named_and_nothing_is_left(tmp_path: Path, file: Path) -> None:
    script = 'ulimit -f 1; exec "$@"'
    command = [sys.executable, "-m", "triocept", "export", "--to", "jsonl", str(file), "-o", "out.jsonl"]
    # coverage could not write its own file either
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {script}", "bash", *command],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: out.jsonl: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_a_file_appears_when_it_is_whole_and_not_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with new_file(path) as file:
        file.write(b"a")
        assert not path.exists()
    assert path.read_bytes() == b"a"
    with pytest.raises(RuntimeError, match="stop"), new_file(path, replace=True) as file:
        file.write(b"b")
        raise RuntimeError("stop")
    assert path.read_bytes() == b"a"
    with pytest.raises(RuntimeError, match="stop"), new_folder(tmp_path / "folder") as folder:
        (folder / "x").write_text("x")
        raise RuntimeError("stop")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_file_that_somebody_else_made_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(FileExistsError, match="out"), new_file(path) as file:
        file.write(b"a")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_the_names_of_trajectories_are_names_of_files_and_differ(tmp_path: Path) -> None:
    names = ("a/b", "a_b", "..")
    traces = [trace_of(turn(0, (), Response.of("ok"), rollout=name), rollout=name) for name in names]
    write_export([*traces, traces[0]], "atif", tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a_b-run_1-run_1.json", "a_b-run_1.json", "a_b.json", "rollout.json"]
