"""Stores from elsewhere, with pipes and links in place of files: the commands that read stores do not follow them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.cli_forks import triocept
from tests.cli.cli_helpers import PATIENCE
from tests.view.test_recorded import recorded, run_of
from triocept.fleets.store.layout import make, new_run, write_run
from triocept.fleets.store.lines import DoneFile, DoneLine, TracePlace

COMMANDS = {
    "check": ("check",),
    "show": ("show",),
    "stats": ("stats",),
    "export": ("export", "--to", "jsonl", "-o", "-"),
    "compare": ("compare", "--task", "k", "."),
}


async def store_with(folder: Path, make_file: Callable[[Path], object]) -> Path:
    """A store with two results; the trace file of the second is made by `make_file`."""
    store = folder / "store"
    make(store)
    write_run(store, new_run({}))
    await recorded(store / "traces" / "a.jsonl")
    make_file(store / "traces" / "b.jsonl")
    done = DoneFile(store / "done.jsonl", fsync=False)
    for number, (key, file) in enumerate({"good": "a.jsonl", "k": "b.jsonl"}.items()):
        run = run_of(store / "traces" / "a.jsonl") if key == "good" else "run_2"
        place = TracePlace(rollout="r", run=run, file=file, begin=0, end=1)
        line = DoneLine(
            key=key, outcome="value", number=number, attempt=1, worker="w", at=0.0, traces=(place,)
        )
        done.append(line)
    done.close()
    return store


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("what", ["pipe", "link"])
async def test_a_trace_file_of_a_store_that_is_a_pipe_or_leads_out_is_named_and_not_read(
    tmp_path: Path, what: str, command: tuple[str, ...]
) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text("a secret\n")
    store = await store_with(tmp_path, os.mkfifo if what == "pipe" else lambda path: path.symlink_to(secret))
    words = [str(store) if word == "." else word for word in command]
    done = triocept(*words, store, timeout=PATIENCE)
    output = done.stdout + done.stderr
    assert done.returncode in (1, 2)
    assert "b.jsonl" in output
    assert ("is not a regular file" if what == "pipe" else "is a link that leads out") in output
    assert "a secret" not in output
    if command[0] == "show":  # the good file was read
        assert "2 turns" in done.stdout


@pytest.mark.parametrize("name", ["run.json", "done.jsonl"])
@pytest.mark.parametrize("command", ["check", "show", "export"])
async def test_a_file_of_the_store_itself_that_leads_out_of_it_is_an_error(
    tmp_path: Path, command: str, name: str
) -> None:
    store = await store_with(tmp_path, Path.touch)
    (store / name).rename(tmp_path / name)
    (store / name).symlink_to(tmp_path / name)
    done = triocept(*COMMANDS[command], store, timeout=PATIENCE)
    assert done.returncode == 2
    assert f"{name} is a link that leads out of the store" in done.stderr


async def test_a_link_within_the_store_and_a_link_to_the_store_are_followed(tmp_path: Path) -> None:
    store = await store_with(tmp_path, lambda path: path.symlink_to("a.jsonl"))
    (tmp_path / "link").symlink_to(store)
    done = triocept("show", tmp_path / "link", timeout=PATIENCE)
    assert done.returncode == 1, done.stderr
    assert "results name 1 rollout that the trace files do not contain" in done.stderr
    assert "link that leads out" not in done.stderr
