"""The page of recorded runs: served, and as one HTML file."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.exports.sample import child, sample, trace_of, turn
from tests.view.watching import TOOLS, Agent, Viewer
from triocept import JSONLRecorder, Message, Response, ScriptedModel, Text, Trace, serve_endpoint
from triocept._cli.export import Export
from triocept._cli.view import View
from triocept._view.recorded import serve_source
from triocept._view.source import Source
from triocept.errors import TrioceptError
from triocept.exports import html_page
from triocept.fleets.store.layout import make, new_run, write_run
from triocept.fleets.store.lines import DoneFile, DoneLine, TracePlace

HOSTILE = "</script><script>alert(1)</script><!--<script>" + (
    "<img src=x onerror=alert(2)> ![x](https://evil.example/) \u202e \x1b[31m"
)


def data_of(page: bytes) -> Any:
    found = re.search(rb'<script type="text/plain" id="triocept-data">([A-Za-z0-9+/=]*)</script>', page)
    assert found is not None
    return json.loads(gzip.decompress(b64decode(found[1])))


def hostile() -> Trace:
    return trace_of(turn(0, (Message("user", (Text(HOSTILE),)),), Response.of(HOSTILE)))


async def test_the_served_page_and_the_file_have_the_same_rows_and_messages() -> None:
    source = Source("traces.jsonl")
    traces = child(), sample()
    for trace in traces:
        source.add(trace)
    data = data_of(html_page(traces, title="traces.jsonl"))
    with trio.fail_after(20):
        async with serve_source(source, host="127.0.0.1", port=0) as url, httpx2.AsyncClient() as client:
            viewer = Viewer(client, url)
            snapshot = await viewer.json("snapshot")
            assert snapshot["live"] is snapshot["can_decide"] is False
            assert snapshot | {"now": 0} == data["snapshot"] | {"now": 0}
            assert [row["state"] for row in snapshot["rows"]] != []
            for run, stored in data["runs"].items():
                turns = await viewer.json(f"runs/{run}/turns")
                assert turns == {name: stored[name] for name in ("turns", "services", "agents")}
                last = len(stored["messages"]) - 1
                known = (await viewer.json(f"runs/{run}/messages?numbers=0-{last}"))["messages"]
                assert [*known.values()] == stored["messages"]
                for each in turns["turns"]:
                    detail = await viewer.json(f"runs/{run}/turns/{each['id']}")
                    assert detail == {"turn": each} | stored["details"][each["id"]]
                    assert all(stop <= last + 1 for _, stop in each["messages"])
            async with viewer.stream() as events:
                streamed = [(name, each) async for _, name, each in events]
            assert [(name, each | {"now": 0}) for name, each in streamed] == [
                ("snapshot", snapshot | {"now": 0})
            ]
            assert (await viewer.decide(id="q_1", kind="approve")).status_code == 409
            assert (await client.get(f"{viewer.base}api/snapshot")).status_code == 401


def test_rows_of_a_recorded_run_name_sub_agents_compactions_and_results() -> None:
    [run] = data_of(html_page([sample()]))["runs"].values()
    kinds = {each["conversation"]["kind"] for each in run["turns"]}
    assert {"main", "sub_agent"} <= kinds
    relations = {each["relation"]["kind"] for each in run["turns"]}
    assert {"sub_agent", "compaction"} <= relations
    compacted = next(each for each in run["turns"] if each["relation"]["kind"] == "compaction")
    assert compacted["gone"] != []
    first = run["turns"][1]
    assert run["messages"][first["answer"]]["role"] == "assistant"
    assert first["usage"]["cached_tokens"] == 60


def test_hostile_text_is_no_markup_in_the_file_and_the_policy_allows_only_its_own_scripts() -> None:
    page = html_page([hostile()], title=HOSTILE)
    text = page.decode()
    assert "alert(" not in re.sub(r"<title>.*?</title>", "", text, flags=re.DOTALL)
    title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    assert title is not None
    assert "<" not in title[1]
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for kind in ("script", "style"):
        for each in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL):
            digest = b64encode(sha256(each.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    markup = re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r'(?:src|href)="(?!data:)', markup)
    assert data_of(page)["runs"]["run_1"]["messages"][0]["content"][0]["text"] == HOSTILE


async def recorded(path: Path) -> None:
    async with httpx2.AsyncClient() as client, serve_endpoint(recorder=JSONLRecorder(path)) as endpoint:
        async with endpoint.open_rollout(ScriptedModel(["one", "two"]), metadata={"task": "t"}) as rollout:
            agent = Agent(client, rollout)
            await agent.say("a")
            await agent.say("b")
            await rollout.score("reward", 0.5)


async def test_a_recorded_run_ends_when_it_was_sealed_and_not_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    await recorded(path)
    sealed_at = json.loads(path.read_text().splitlines()[-1])["at"]
    [row] = View([path], "", 0).read().snapshot()["rows"]
    assert row["ended_at"] == sealed_at


async def test_a_file_that_was_cut_is_shown_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    await recorded(path)
    [row] = View([path], "", 0).read().snapshot()["rows"]
    assert (row["state"], row["scores"], row["turns"]) == ("ended", {"reward": 0.5}, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]) + lines[-3][:40])
    source = View([path], "", 0).read()
    snapshot = source.snapshot()
    assert snapshot["rows"][0]["state"] == "cut"
    assert any("not sealed" in note and str(path) in note for note in snapshot["notes"])
    path.write_bytes(b"".join([*lines[:3], b"{damaged\n", *lines[4:]]))
    assert any("not read" in note for note in View([path], "", 0).read().notes)


async def test_a_run_with_its_end_and_a_changed_line_is_ended_with_gaps(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    await recorded(path)
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"One"', 1))
    [row] = View([path], "", 0).read().snapshot()["rows"]
    assert row["state"] == "ended, with gaps"


async def test_the_html_file_of_a_store_names_the_lines_that_were_not_read(tmp_path: Path) -> None:
    store = tmp_path / "store"
    make(store)
    write_run(store, new_run({}))
    await recorded(store / "traces" / "a.jsonl")
    place = TracePlace(rollout="r", run=run_of(store / "traces" / "a.jsonl"), file="a.jsonl", begin=0, end=1)
    done = DoneFile(store / "done.jsonl", fsync=False)
    done.append(DoneLine(key="k", outcome="value", number=0, attempt=1, worker="w", at=0.0, traces=(place,)))
    done.close()
    with (store / "done.jsonl").open("ab") as file:
        file.write(b"{damaged\n" * 30)
    Export([store], "html", tmp_path / "out.html").run()
    notes = data_of((tmp_path / "out.html").read_bytes())["snapshot"]["notes"]
    assert (len(notes), "done.jsonl" in notes[0]) == (11, True)
    assert notes[0].startswith("a line was not read: ")
    assert notes[-1] == "and 20 lines that cannot be read"


async def test_rollouts_of_several_files_name_their_file(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    await recorded(files[0])
    files[1].write_bytes(files[0].read_bytes())
    assert [row["file"] for row in View(files, "", 0).read().snapshot()["rows"]] == [*map(str, files)]
    assert [row["file"] for row in View(files[:1], "", 0).read().snapshot()["rows"]] == [""]


def run_of(path: Path) -> str:
    run: str = json.loads(path.read_bytes().splitlines()[0])["run"]
    return run


def view_command(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "triocept", "view", *arguments], stderr=subprocess.PIPE, text=True
    )


async def test_of_a_store_only_regular_files_inside_it_are_shown(tmp_path: Path) -> None:
    store, secret = tmp_path / "store", tmp_path / "secret.jsonl"
    await recorded(secret)
    make(store)
    write_run(store, new_run({}))
    files = {
        name: store / "traces" / name for name in ("a.jsonl", "inner.jsonl", "outer.jsonl", "pipe.jsonl")
    }
    await recorded(files["a.jsonl"])
    files["inner.jsonl"].symlink_to("a.jsonl")
    files["outer.jsonl"].symlink_to(secret)
    os.mkfifo(files["pipe.jsonl"])
    places = [
        TracePlace(rollout="r", run=run_of(path), file=path.name, begin=0, end=1)
        for path in (secret, files["a.jsonl"])
    ]
    done = DoneFile(store / "done.jsonl", fsync=False)
    done.append(
        DoneLine(key="k", outcome="value", number=0, attempt=1, worker="w", at=0.0, traces=tuple(places))
    )
    done.close()

    async def shown() -> Source:
        with trio.fail_after(20):
            return await trio.to_thread.run_sync(View([store], "", 0).read, abandon_on_cancel=True)

    source = await shown()
    assert (
        {run_of(files["a.jsonl"])}
        <= {*source.runs}
        <= {run_of(files["a.jsonl"]), run_of(files["a.jsonl"]) + "'"}
    )
    notes = [note for note in source.notes if "not read" in note]
    assert ["outer.jsonl is a link" in notes[0], "pipe.jsonl is not a regular file" in notes[1]] == [
        True,
        True,
    ]
    for make_part in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "elsewhere")):
        (store / "done.jsonl").unlink()
        make_part(store / "done.jsonl")
        with pytest.raises(TrioceptError, match=r"the store is not read, because done\.jsonl is "):
            await shown()


@pytest.mark.slow
async def test_ctrl_c_ends_triocept_view_while_it_waits_for_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with trio.fail_after(60), view_command(path) as command:
        writer = await trio.to_thread.run_sync(
            os.open, path, os.O_WRONLY
        )  # waits until the command has opened it
        try:
            command.send_signal(signal.SIGINT)
            assert await trio.to_thread.run_sync(lambda: command.wait(timeout=60)) == -signal.SIGINT
        finally:
            os.close(writer)


@pytest.mark.slow
async def test_triocept_view_serves_until_ctrl_c(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    await recorded(path)
    with trio.fail_after(60), view_command(path) as command:
        assert command.stderr is not None
        line = await trio.to_thread.run_sync(command.stderr.readline)
        async with httpx2.AsyncClient() as client:
            viewer = Viewer(client, line.split()[-1])
            [row] = (await viewer.json("snapshot"))["rows"]
            assert row["text"] == "two"
        command.send_signal(signal.SIGINT)
        assert await trio.to_thread.run_sync(lambda: command.wait(timeout=60)) == -signal.SIGINT


@pytest.mark.slow
def test_triocept_view_says_why_a_file_cannot_be_shown(tmp_path: Path) -> None:
    newer, other = tmp_path / "newer.jsonl", tmp_path / "other.txt"
    newer.write_text('{"type":"open","version":3,"rollout":"r","run":"x","seq":0,"prev":""}\n')
    other.write_text("hello\n")
    for path, why in (
        (newer, "newer triocept"),
        (other, "is not a trace file"),
        (tmp_path, "directory"),
        (tmp_path / "none", "No such file"),
    ):
        with view_command(path) as command:
            _, said = command.communicate(timeout=60)
        assert (command.returncode, why in said) == (2, True), said


@pytest.mark.slow
async def test_triocept_serve_view_asks_on_the_page_without_a_terminal(tmp_path: Path) -> None:
    script = tmp_path / "replies.py"
    script.write_text('from triocept import ToolCall\nreplies = [ToolCall.of("bash", command="ls")]\n')
    command = [
        sys.executable,
        "-m",
        "triocept",
        "serve",
        "--view",
        "--approve",
        "bash",
        "--script",
        str(script),
    ]
    with (
        trio.fail_after(60),
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as served,
    ):
        assert served.stderr is not None
        assert served.stdout is not None
        line = await trio.to_thread.run_sync(served.stderr.readline)
        variables: dict[str, str] = {}
        while "OPENAI_API_KEY" not in variables or "OPENAI_BASE_URL" not in variables:
            given = (await trio.to_thread.run_sync(served.stdout.readline)).removeprefix("export ").strip()
            name, _, value = given.partition("=")
            variables[name] = value
        async with httpx2.AsyncClient() as client, trio.open_nursery() as nursery:
            viewer = Viewer(client, line.split()[-1])
            answers: list[int] = []

            async def ask() -> None:
                response = await client.post(
                    f"{variables['OPENAI_BASE_URL']}/chat/completions",
                    headers={"authorization": f"Bearer {variables['OPENAI_API_KEY']}"},
                    json={"model": "m", "messages": [{"role": "user", "content": "go"}], "tools": TOOLS},
                    timeout=30,
                )
                answers.append(response.status_code)

            nursery.start_soon(ask)
            async with viewer.stream() as events:
                snapshot = await events.until("snapshot")
                asked = snapshot["waiting"][0] if snapshot["waiting"] else await events.until("asked")
            assert (await viewer.decide(id=asked["id"], kind="approve", by="Ann")).status_code == 200
        assert answers == [200]
        served.send_signal(signal.SIGINT)
        assert await trio.to_thread.run_sync(lambda: served.wait(timeout=60)) == -signal.SIGINT
