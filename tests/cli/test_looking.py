"""`triocept show`, `diff` and `stats`: what a person reads of a file, and what a program reads."""

import doctest
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from cli_helpers import PATIENCE, on_a_terminal

from tests.asking import ask
from tests.cli.cli_forks import triocept
from tests.trace.telling import said, tell
from triocept import (
    JSONLRecorder,
    Message,
    Response,
    ScriptedModel,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Trace,
    Usage,
    read_traces,
    serve_endpoint,
)
from triocept._cli.stats import Quantiles
from triocept._trace.trace import TraceWriter
from triocept.traces import AgentStart, Decided, Draft, ServiceCall, TurnError

pytestmark = pytest.mark.once

TASK = said("system: s", "task")
COUNT = "Count the files in this folder."
SUMMARY = "<summary>The user wants hello.</summary>"
PLAIN = {"TERM": "xterm-256color", "NO_COLOR": "", "FORCE_COLOR": "", "COLUMNS": ""}


def looked(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return triocept(*arguments, timeout=PATIENCE, cwd=cwd, env={**PLAIN, **environment})


def shown(*arguments: str | Path, **environment: str) -> str:
    done = looked(*arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def kept(path: Path, *traces: Trace) -> Path:
    """A file with these, sealed."""

    async def write() -> None:
        recorder = JSONLRecorder(path)
        for trace in traces:
            for agent in trace.agents:
                await recorder.record_entry(agent)
            for turn in trace:
                await recorder.record(turn)
            for call in trace.services:
                await recorder.record_service(call)
            await recorder.seal(trace)
        await recorder.aclose()

    trio.run(write)
    return path


def counted(
    *parts: str | ToolCall, tokens: int, cached: int | None = None, estimated: bool = False
) -> Response:
    usage = Usage(input_tokens=tokens, output_tokens=7, cached_tokens=cached, estimated=estimated)
    return Response(Response.of(*parts).content, usage=usage)


def a_run() -> Trace:
    """A sub-agent, a summary, what goes on from it, a title, a failure and its retry."""
    trace = Trace("r_1", run="run_1")
    agent = ToolCall.of("Agent", prompt=COUNT)
    tell(trace, TASK, counted("A helper.", agent, tokens=12_100, estimated=True), of="s")
    tell(
        trace,
        said("system: sub", COUNT),
        counted("2 files.", tokens=999),
        of="a",
        kind="sub_agent",
        parent="s",
    )
    result = Message("user", (ToolResult(id="", content=(Text("2 files."),)),))
    history = (*TASK, Message("assistant", (Text("A helper."), agent)), result)
    tell(trace, history, None, "failed", of="s")
    tell(trace, history, counted("Well.", tokens=185_000, cached=5_000), of="s")
    grown = Message(
        "user", (*result.content, Text("Give a summary of all this, for another model to go on with."))
    )
    tell(trace, (*history[:-1], grown), SUMMARY, of="s")
    tell(trace, said("system: s", "Summary:\nThe user wants hello."), "done", of="s", model="n")
    tell(trace, said("user: title of: task"), "T", of="s", kind="side", tools=())
    return trace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return kept(tmp_path / "t.jsonl", a_run())


# show


def test_a_rollout_is_shown_by_conversation_a_line_for_each_turn(file: Path) -> None:
    lines = [" ".join(line.split()) for line in shown("show", file).splitlines()]
    assert lines == [
        "r_1 sealed 7 turns, 3 conversations 198.1k~ in 33~ out 0.00s",
        "m n",
        "main",
        f'0 0.00s 12.1k~ 7~ tool_use "A helper." + Agent({{"prompt":"{COUNT}"}})',
        "2 0.00s - - failed 500 no",
        '3 0.00s 185.0k 7 end ↻ retry of 2 "Well."',
        f'4 0.00s 35~ 10~ end ↰ from 0 summarises: "{SUMMARY}"',
        '5 0.00s 10~ 1~ end ✂ compacted by 4 "done"',
        "sub-agent 1 (from 0, call 1)",
        '1 0.00s 999 7 end "2 files."',
        "side calls",
        '6 0.00s 3~ 1~ end at 5 "T"',
    ]


def test_each_rollout_of_a_file_is_shown_and_one_can_be_chosen(tmp_path: Path) -> None:
    one, other, again = Trace("a", run="run_a"), Trace("b", run="run_b"), Trace("a", run="run_c")
    for trace in (one, other, again):
        tell(trace, TASK, f"I am {trace.run}")
    file = kept(tmp_path / "t.jsonl", one, other, again)
    assert shown("show", file).count("sealed") == 3
    assert "run_b" in shown("show", file, "--rollout", "b")
    assert "run_a" not in shown("show", file, "--rollout", "b")
    assert "run_c" in shown("show", file, "--rollout", "run_c", "--turn", "0")
    done = looked("show", file, "--turn", "0")
    assert done.returncode == 1
    assert done.stderr == f"Error: {file} holds several rollouts (a, b, a): choose one with --rollout ID\n"
    assert (
        "(run_a, run_c): choose one with --rollout ID"
        in looked("show", file, "--turn", "0", "--rollout", "a").stderr
    )
    assert (
        f"{file} contains no rollout c; it contains a, b, a" in looked("show", file, "--rollout", "c").stderr
    )


def test_a_parent_names_its_children_and_a_child_its_parent(tmp_path: Path) -> None:
    async def play() -> None:
        with trio.fail_after(30):
            async with (
                serve_endpoint(recorder=JSONLRecorder(tmp_path / "t.jsonl")) as endpoint,
                endpoint.open_rollout(ScriptedModel(["fine"]), id="parent") as rollout,
            ):
                for name in ("one", "two"):
                    async with rollout.open_child(ScriptedModel(["well"]), id=name) as child:
                        await ask(child)

    trio.run(play)
    text = shown("show", tmp_path / "t.jsonl")
    assert "  children: one (1 turn)  two (1 turn)\n" in text
    assert text.count("  child of parent, which had 0 turns at that time\n") == 2


def test_one_turn_is_shown_whole(file: Path) -> None:
    text = shown("show", file, "--turn", "4")
    assert text.splitlines()[0] == "turn 4 of r_1  answered"
    assert "conversation main s, continues 0" in text
    assert "tools        1: t" in text
    assert "── 0 system ──" in text
    assert "── 3 user, new ──" in text
    assert "Give a summary of all this" in text
    assert text.endswith(f"{SUMMARY}\n")
    assert shown("show", file, "--turn", "x4") == text, "by its id"
    assert "── 0 system" not in shown("show", file, "--turn", "4", "--new")
    assert (
        json.loads(shown("show", file, "--turn", "4", "--json"))["request"]["messages"][0]["role"] == "system"
    )


def test_a_turn_says_what_it_stands_for_and_what_it_took(file: Path) -> None:
    assert "→ Agent {\n" in shown("show", file, "--turn", "0")
    assert "tokens       12,100~ in, 7~ out (an estimate)" in shown("show", file, "--turn", "0")
    assert "sub-agent a, from 0, call 1" in shown("show", file, "--turn", "1")
    assert "185,000 in, 7 out, 5,000 read from a cache" in shown("show", file, "--turn", "3")
    assert "tokens       10~ in, 1~ out (an estimate)" in shown("show", file, "--turn", "5")


def test_a_turn_that_is_not_there_is_told_with_those_that_are(file: Path) -> None:
    done = looked("show", file, "--turn", "9")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: rollout r_1 in {file} has no turn 9; turns in this rollout: 0-6\n"
    assert looked("show", file, "--json").returncode == 2


def test_a_line_is_cut_at_the_edge_of_a_terminal_and_never_in_a_pipe(tmp_path: Path) -> None:
    trace = Trace("r")
    tell(trace, TASK, f"{'ä字' * 300} the end")
    file = kept(tmp_path / "t.jsonl", trace)
    assert "the end" in shown("show", file)
    assert "the end" not in shown("show", file, COLUMNS="80")
    terminal = on_a_terminal("show", str(file), columns=60, kind="dumb", output=True)
    assert "the end" not in terminal
    assert "…" in terminal
    assert "\x1b" not in terminal


def test_where_the_first_line_of_a_rollout_has_no_room_its_figures_stand_below(file: Path) -> None:
    whole = shown("show", file).splitlines()[0]
    first, second, *_ = shown("show", file, COLUMNS=str(len(whole) - 1)).splitlines()
    assert first + second == whole
    assert second.startswith("  ")
    assert shown("show", file, COLUMNS=str(len(whole))).splitlines()[0] == whole


def test_a_terminal_has_colours_unless_somebody_wants_none(file: Path) -> None:
    assert "\x1b[" in on_a_terminal("show", str(file), columns=80, kind="xterm-256color", output=True)
    assert "\x1b[" not in on_a_terminal(
        "show", str(file), columns=80, kind="xterm-256color", output=True, NO_COLOR="1"
    )
    assert "\x1b[" not in shown("show", file)
    assert "\x1b[" in shown("show", file, FORCE_COLOR="1")


def test_how_agents_were_started_is_told_and_what_they_call_themselves(tmp_path: Path) -> None:
    """Many call themselves by the SDK that they are made with."""
    trace = Trace("r", run="run")
    writer = TraceWriter(trace)
    for number in range(5):
        argv = ("/opt/bin/aider", "--message", "Write it,\nnow.", "--try", str(number // 2 or 0))
        writer.add(AgentStart(rollout="r", run="run", argv=argv, cwd="/", started_at=0.0))
    writer.add(AgentStart(rollout="r", run="run", argv=("claude",), cwd="/", started_at=0.0))
    names = (
        "OpenAI/Python 2.20.0",
        "claude-cli/2.1.197 (external, cli)",
        "opencode/1.18 ai-sdk/4 bun/1",
        "OpenAI/JS",
    )
    for name in names:
        tell(trace, TASK, "hello", agent=name)
    file = kept(tmp_path / "t.jsonl", trace)
    assert shown("show", file).splitlines()[1:6] == [
        *(f"  $ aider --message 'Write it,\\nnow.' --try {number}" for number in range(3)),
        "  and 1 command more",
        "  OpenAI/Python 2.20.0  claude-cli/2.1.197  opencode/1.18  OpenAI/JS  m",
    ]
    counts = [line.split("  ")[0] for line in shown("stats", file, "--by", "agent").splitlines()[2:-2]]
    assert counts == ["OpenAI/JS", "OpenAI/Python 2.20.0", "claude-cli/2.1.197", "opencode/1.18"]
    (row,) = shown("stats", file, "--by", "command").splitlines()[2:-1]
    assert row.startswith("aider, claude      4")


def test_the_last_call_of_an_answer_has_the_edge_of_the_line(tmp_path: Path) -> None:
    """What stands in front of it is cut, so that it is seen."""
    trace = Trace("r")
    long = ToolCall.of("bash", command="x" * 70)
    tell(trace, TASK, Response.of("y" * 70, long, long))
    file = kept(tmp_path / "t.jsonl", trace)
    (line,) = shown("show", file, COLUMNS="300").splitlines()[3:]
    assert line.endswith('" + bash({"command":"' + "x" * 43 + '…) + bash({"command":"' + "x" * 70 + '"})')
    assert len(shown("show", file, COLUMNS="120").splitlines()[3]) == 120


def test_a_tool_that_its_provider_runs_is_told_by_what_it_is(tmp_path: Path) -> None:
    trace = Trace("r")
    tell(
        trace,
        TASK,
        "hello",
        tools=(Tool(name="t"), Tool(name="", kind="server", extra={"type": "web_search"})),
    )
    assert "  tools        2: t, web_search\n" in shown(
        "show", kept(tmp_path / "t.jsonl", trace), "--turn", "0"
    )


EVIL = "\x1b[2Jgone\x07\u202e \u009b31m"


def test_nothing_that_an_agent_says_steers_the_terminal(tmp_path: Path) -> None:
    trace = Trace(f"r{EVIL}")
    tell(trace, said(f"system: {EVIL}", EVIL), Response.of(EVIL, ToolCall(EVIL, EVIL)), of=EVIL, model=EVIL)
    tell(trace, said(f"system: {EVIL}", f"{EVIL} and more"), EVIL, "failed", of=EVIL, model="m")
    file = kept(tmp_path / "t.jsonl", trace)
    for arguments in (
        ("show", file),
        ("show", file, "--turn", "0"),
        ("show", file, "--turn", "1"),
        ("diff", file, "0", "1"),
        ("stats", file, "--by", "model"),
        ("show", file, "--turn", "7"),
    ):
        done = looked(*arguments)
        assert not set("\x1b\x07\u202e\u009b") & set(done.stdout + done.stderr), arguments


# diff


def test_what_has_grown_at_its_end_is_told_as_an_edit(file: Path) -> None:
    lines = shown("diff", file, "3", "4").splitlines()
    assert lines == [
        "turn 3 → 4: 4 → 4 messages, tools same (1), settings same",
        "  3 messages the same (0-2)",
        "~   3 user            69  edited, +61 at its end: 2 files."
        "[+\\nGive a summary of all this, for another model to go on with.+]",
    ]


def test_messages_that_came_and_went_and_settings_are_told(file: Path) -> None:
    lines = shown("diff", file, "4", "5").splitlines()
    assert lines[1] == "  1 message the same (0)"
    assert [line[:17].rstrip() for line in lines[2:]] == [
        "-   1 user",
        "-   2 assistant",
        "-   3 user",
        "+   1 user",
        '~ model: "m" → "n',
    ]


def test_what_was_dropped_stands_in_front_of_what_was_added(tmp_path: Path) -> None:
    trace = Trace("r")
    tell(trace, said("system: s", "one", "two", "same"), "hello")
    tell(trace, said("system: s", "other words", "a second", "a third", "same"), "hello")
    lines = shown("diff", kept(tmp_path / "t.jsonl", trace), "0", "1").splitlines()
    assert [line[:8] for line in lines[2:-1]] == [
        f"{mark} {at:>3} us" for mark, at in ("-1", "-2", "+1", "+2", "+3")
    ]


def test_of_a_setting_the_fields_that_differ_are_told_and_of_a_long_text_the_place(tmp_path: Path) -> None:
    trace, same = Trace("r"), "a" * 30
    for number in range(2):
        about = {"id": 7, "window": f"{same}{number}", "more": {"n": number, "x": 1}}
        tell(trace, TASK, "hello", extra={"about": about})
    file = kept(tmp_path / "t.jsonl", trace)
    window = '~ extra.about.window: "{0}0" → "{0}1"'
    assert shown("diff", file, "0", "1").splitlines()[2:] == [
        window.format(same),
        "~ extra.about.more.n: 0 → 1",
    ]
    assert shown("diff", file, "0", "1", COLUMNS="80").splitlines()[2] == window.format("…" + "a" * 20)


def test_two_turns_of_which_one_is_not_there_are_not_compared(file: Path) -> None:
    assert "has no turn x" in looked("diff", file, "x", "1").stderr


def handled_run() -> Trace:
    """A turn with decisions and drafts, and the same call again with other ones."""
    ask = Decided(call="c1", tool="Bash", kind="approve", by="ask", seconds=1.21)
    no = Decided(call="c2", tool="Write", kind="reject", reason="not\nallowed", seconds=0.5, way="gate")
    new = Decided(call="c3", tool="Bash", kind="modify", arguments='{"command":"ls"}', seconds=0)
    usage = Usage(input_tokens=12_100, output_tokens=7)
    more = Draft(
        why="best_of", counted=True, response=Response((Text("B"),), usage=usage), started=0, duration=2.5
    )
    error = TurnError(type="UpstreamError", message="overloaded", status=529)
    failed = Draft(why="best_of", error=error, started=0, duration=1)
    trace = Trace("r")
    tell(trace, TASK, "A", of="s", decisions=(ask, no), drafts=(more, failed))
    tell(trace, TASK, "A", of="s", decisions=(ask, new), drafts=(more,))
    return trace


def test_decisions_and_drafts_of_a_turn_are_shown(tmp_path: Path) -> None:
    file = kept(tmp_path / "t.jsonl", handled_run())
    assert shown("show", file, "--turn", "0").splitlines()[6:12] == [
        "  tokens       12,104~ in, 8~ out, with the drafts (an estimate)",
        "  tools        1: t",
        "  decision     approve Bash, in the answer, by ask (c1, after 1.21 s)",
        "  decision     reject Write, at the gate: not allowed (c2, after 0.500 s)",
        "  draft 1      best_of, 12.1k in 7 out, in addition to the answer (took 2.50 s)",
        "  draft 2      best_of: 529 overloaded (took 1.00 s)",
    ]
    row = " ".join(shown("show", file, COLUMNS="80").splitlines()[-2].split())
    assert row == '0 12.1k~ 1 approve, 1 reject, 2 drafts "A"'
    turn = json.loads(shown("show", file, "--turn", "0", "--json"))
    assert [each["kind"] for each in turn["decisions"]] == ["approve", "reject"]
    assert [each["why"] for each in turn["drafts"]] == ["best_of", "best_of"]


def test_decisions_and_drafts_that_only_one_turn_has_are_compared(tmp_path: Path) -> None:
    lines = shown("diff", kept(tmp_path / "t.jsonl", handled_run()), "0", "1").splitlines()
    assert lines[-3:] == [
        "- decision      reject Write, at the gate: not allowed",
        '+ decision      modify Bash to {"command":"ls"}, in the answer',
        "- draft         best_of: 529 overloaded",
    ]


# stats


def test_decisions_and_drafts_are_counted(tmp_path: Path) -> None:
    file = kept(tmp_path / "t.jsonl", handled_run())
    for columns in ("", "44", "80"):
        assert shown("stats", file, COLUMNS=columns).splitlines()[-2:] == [
            "decisions: 2 approve, 1 reject, 1 modify",
            "3 drafts: 24.2k in 14 out, in the table",
        ]
    total = json.loads(shown("stats", file, "--json"))["total"]
    assert total["decisions"] == {"approve": 2, "reject": 1, "modify": 1}
    assert (total["drafts"], total["draft_input_tokens"], total["draft_output_tokens"]) == (3, 24_200, 14)
    assert total["input_tokens"] == handled_run().usage.input_tokens == 24_208, "with the drafts"


def test_calls_that_bypassed_the_gate_are_counted(tmp_path: Path) -> None:
    trace = handled_run()
    error = TurnError(type="GateBypassed", message="never asked", status=500)
    call = {
        "rollout": "r",
        "kind": "gate",
        "outcome": "failed",
        "error": error,
        "started_at": 0,
        "duration": 0,
    }
    for number, tool in enumerate(["Bash", "Bash", "Write"]):
        trace._services.append(ServiceCall(id=f"s{number}", number=number, name=tool, **call))  # type: ignore[arg-type]
    file = kept(tmp_path / "t.jsonl", trace)
    assert (
        "  3 tool calls ran without a decision of the gate: Bash, Write" in shown("show", file).splitlines()
    )
    assert "3 tool calls ran without a decision of the gate" in shown("stats", file).splitlines()
    assert json.loads(shown("stats", file, "--json"))["bypasses"] == 3


def test_calls_are_counted_by_kind_and_model(file: Path) -> None:
    lines = [line.split() for line in shown("stats", file).splitlines()]
    assert lines[0][:6] == ["1", "rollout,", "1", "sealed,", "7", "calls;"]
    assert " ".join(lines[1]) == "kind model calls err in cached out p50 p90 max first p50 first p90"
    assert [line[:7] for line in lines[2:-1]] == [
        ["main", "m", "4", "1", "197.1k~", "5.0k~", "24~"],
        ["main", "n", "1", "0", "10~", "-", "1~"],
        ["side", "m", "1", "0", "3~", "-", "1~"],
        ["sub-agent", "m", "1", "0", "999", "-", "7"],
        ["all", "7", "1", "198.1k~", "5.0k~", "33~", "0.0000"],
    ]
    assert " ".join(lines[-1]) == "the model reported no tokens for 3 calls"


def test_the_table_has_the_columns_that_there_is_room_for(file: Path) -> None:
    for columns in (44, 60, 80, 100):
        lines = shown("stats", file, COLUMNS=str(columns)).splitlines()
        assert all(len(line) <= columns for line in lines)
        assert not [line for line in lines[1:] if line.endswith("…")], "no figure is cut"


@pytest.mark.parametrize("columns", [44, 60, 80, 120])
def test_however_many_names_there_are_no_figure_is_cut(columns: int, tmp_path: Path) -> None:
    """By four names of real agents the tokens were cut in two."""
    trace = Trace("r_0123456789abcdef", run="run")
    for name in ("GeminiCLI-tui/0.61.0/triocept", "OpenAI/JS 6.26.0"):
        tell(
            trace,
            TASK,
            counted("hello", tokens=27_100, estimated=True),
            of="s",
            agent=name,
            model="claude-opus-4-8",
        )
    file = kept(tmp_path / "t.jsonl", trace)
    names = ("agent", "kind", "model", "outcome", "dialect", "rollout")
    for count in (1, 2, 4, 6 if columns > 44 else 5):
        by = [part for name in names[:count] for part in ("--by", name)]
        head, *rows = shown("stats", file, *by, COLUMNS=str(columns)).splitlines()[1:]
        assert all(len(line) <= columns for line in (head, *rows))
        figures = head.replace("first p", "first-p").split()[count:]
        assert figures[0] == "calls"
        assert all(
            re.fullmatch(r"[\d.,]+k?~?|-", figure) for row in rows for figure in row.split()[-len(figures) :]
        )
        assert not [line for line in (head, *rows) if line.endswith("…")]


def test_figures_come_as_json_and_what_nobody_said_is_null(file: Path, tmp_path: Path) -> None:
    other = shutil.copy(file, tmp_path / "other.jsonl")
    found = json.loads(shown("stats", file, other, "--by", "outcome", "--by", "agent", "--json"))
    assert (found["rollouts"], found["sealed"], found["by"]) == (2, 2, ["outcome", "agent"])
    assert [(each["outcome"], each["agent"], each["calls"]) for each in found["groups"]] == [
        ("answered", "-", 12),
        ("failed", "-", 2),
    ]
    assert (found["total"]["decisions"], found["total"]["drafts"]) == ({}, 0)
    assert found["total"]["draft_input_tokens"] is None
    answered, failed = found["groups"]
    assert (answered["input_tokens"], answered["cached_tokens"]) == (396_294, 10_000)
    assert (answered["estimated"], answered["uncounted_calls"]) == (True, 6)
    assert answered["latency"] == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}
    assert (failed["input_tokens"], failed["latency"], failed["errors"]) == (None, None, 2)


def test_percentiles_are_true_to_one_percent_however_many_there_are() -> None:
    times = Quantiles()
    for number in range(1, 100_001):
        times.add(number / 1000)
    for percent in (1, 50, 90, 99):
        assert times.percentile(percent) == pytest.approx(percent, rel=0.01)
    assert times.percentile(100) == pytest.approx(100)
    assert len(times._classes) < 2000
    with pytest.raises(ValueError, match="add at least one duration"):
        Quantiles().percentile(50)


# The page


PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "look-at-traces.md").read_text()


def test_the_commands_of_the_page_print_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"^```console\n\$ triocept (.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    assert len(blocks) == 5
    for command, wanted in blocks:
        printed = looked(*shlex.split(command), cwd=tmp_path).stdout
        if command.startswith("demo"):
            continue
        lines = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(wanted, lines, flags), f"{command} printed:\n{lines}"


# Whatever the file is


def damaged(file: Path, how: str) -> bytes:
    lines = file.read_bytes().splitlines(keepends=True)
    match how:
        case "a half line in the middle":
            lines[2] = lines[2][: len(lines[2]) // 2] + b"\n"
        case "bytes that are not UTF-8":
            lines[2] = lines[2].replace(b'"', b'"\xff\xfe', 1)
        case "no newline at the end":
            lines[-1] = lines[-1].rstrip(b"\n")
        case "a half line at the end":
            lines[-1] = lines[-1][:20]
        case "a line of another program":
            lines.insert(2, b'{"level": "info", "message": "hello"}\n')
        case "a line of a newer version":
            lines.append(lines[-1].replace(b'"version":2', b'"version":99', 1))
    return b"".join(lines)


DAMAGES = {
    "a half line in the middle": 1,
    "bytes that are not UTF-8": 1,
    "no newline at the end": 0,
    "a half line at the end": 0,
    "a line of another program": 1,
    "a line of a newer version": 1,
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("command", ["show", "stats"])
def test_of_a_damaged_file_all_that_can_be_read_is_shown(file: Path, how: str, command: str) -> None:
    data = damaged(file, how)
    assert data != file.read_bytes()
    file.write_bytes(data)
    done = looked(command, file)
    assert "Traceback" not in done.stderr
    assert done.returncode == DAMAGES[how]
    if "newer" not in how:
        assert ("r_1" if command == "show" else "1 rollout") in done.stdout
    if DAMAGES[how]:
        place = len(data.splitlines()) if "newer" in how else 3
        assert f"{file}:{place}: " in done.stderr


def test_a_file_whose_end_is_there_is_not_said_to_have_none(file: Path, tmp_path: Path) -> None:
    """One byte of it is another: what is the matter is said, and nothing that is not."""
    file.write_bytes(file.read_bytes().replace(b"A helper.", b"A helped.", 1))
    head, *lines = shown("show", file).splitlines()
    assert head.startswith("r_1  sealed, with gaps  7 turns")
    (gaps,) = (line.strip() for line in lines if "gaps" in line)
    assert gaps == "gaps (missing or changed parts): line_changed; `triocept check` shows each"
    assert shown("stats", file).startswith(
        "1 rollout, 0 sealed, 1 sealed with gaps (`triocept check` shows each), 7 calls; "
    )
    assert json.loads(shown("stats", "--json", file))["sealed_with_gaps"] == 1
    exported = looked("export", "--to", "jsonl", file, "-o", tmp_path / "out")
    assert exported.stderr.splitlines()[0] == "▸ rollout r_1 is sealed, with gaps: line_changed"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert shown("show", file).startswith("r_1  not sealed: turns may be missing  7 turns")


def test_a_rollout_without_a_call_has_no_tokens_and_no_time(tmp_path: Path) -> None:
    assert shown("show", kept(tmp_path / "t", Trace("r"))) == "r  sealed  no turns\n"


OTHERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "holds no rollout: the file is empty"),
    "a log": (b"INFO hello\n" * 100, "this is not a trace file: its first line is 'INFO hello'. Trace"),
    "a picture": (bytes(range(256)) * 50, "this is not a trace file: its first line is '\\x00\\x01"),
    "JSON of somebody": (
        b'{"a": 1}\n[1]\nnull\n',
        "this is not a trace file: its first line is '{\"a\": 1}'. Trace",
    ),
    "one JSON object": (
        b'{\n"a": 1,\n"b": 2}',
        "this is not a trace file: it contains a JSON object with the keys 'a', 'b'.",
    ),
    "a JSON list": (
        b"[\n1\n]\n",
        "this is not a trace file: it contains a JSON list. Trace files are written by",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("arguments", [("show",), ("show", "--turn", "0"), ("stats",)])
def test_a_file_that_is_none_of_ours_is_said_to_be_so(
    kind: str, arguments: Sequence[str], tmp_path: Path
) -> None:
    file = tmp_path / "x"
    data, words = OTHERS[kind]
    file.write_bytes(data)
    done = looked(arguments[0], file, *arguments[1:])
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_no_file_is_said_to_be_so(tmp_path: Path) -> None:
    directory = f" is a directory: name the files in it, as in {tmp_path}/*.jsonl"
    for path, words in ((tmp_path, directory), (tmp_path / "x", ": No such file or directory")):
        for command in (("show",), ("stats",), ("show", "--turn", "0")):
            done = looked(*command, path)
            assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {path}{words}\n")


def test_of_several_files_those_that_can_be_read_are_counted(file: Path, tmp_path: Path) -> None:
    done = looked("stats", tmp_path / "x", file)
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "1 rollout," in done.stdout


def test_of_several_files_each_rollout_is_shown(file: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(file, tmp_path / "other.jsonl"))
    done = looked("show", file, tmp_path / "x", other)
    once = shown("show", file)
    assert done.stdout == f"{once}\n{once}"
    assert (done.returncode, done.stderr) == (2, f"Error: {tmp_path / 'x'}: No such file or directory\n")
    assert "--turn needs one file, not 2" in looked("show", file, other, "--turn", "0").stderr


def test_a_file_that_is_named_twice_is_read_once(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(file)
    assert shown("show", file, tmp_path / "link.jsonl", file) == shown("show", file)
    (loop := tmp_path / "loop.jsonl").symlink_to(loop)
    assert looked("show", file, loop).stderr == f"Error: {loop}: Too many levels of symbolic links\n"


def told(rollout: str) -> Trace:
    trace = Trace(rollout)
    tell(trace, TASK, "hello")
    return trace


@pytest.mark.parametrize("command", ["show", "stats"])
def test_of_several_files_one_may_hold_the_rollout_that_is_wanted(command: str, tmp_path: Path) -> None:
    paths = [kept(tmp_path / name, told(name)) for name in ("a", "b")]
    done = looked(command, *paths, "--rollout", "b")
    assert (done.returncode, done.stderr) == (0, "")
    done = looked(command, *paths, "--rollout", "c")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "Error: none of the files contains a rollout c\n",
    )


# Whoever reads it


def many(path: Path, count: int) -> Path:
    traces = [Trace(f"r_{number}", run=f"run_{number}") for number in range(count)]
    for trace in traces:
        tell(trace, TASK, "an answer " * 20)
    return kept(path, *traces)


def test_a_reader_that_goes_away_ends_it_without_a_word(tmp_path: Path) -> None:
    file = many(tmp_path / "t.jsonl", 400)
    command = [sys.executable, "-m", "triocept", "show", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == -signal.SIGPIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_words(file: Path) -> None:
    command = [sys.executable, "-m", "triocept", "show", str(file)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: standard output: No space left on device\n"


def test_what_the_output_has_no_letters_for_is_shown_as_numbers(file: Path) -> None:
    assert "\\u2702 compacted by 4" in shown("show", file, PYTHONIOENCODING="ascii")


PEAK = """
import resource, runpy, sys
sys.argv = ["triocept", *sys.argv[1:]]
try:
    runpy.run_module("triocept", run_name="__main__")
except SystemExit:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["show", "stats"])
def test_many_rollouts_take_no_more_memory_than_few(command: str, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / str(count)
        text = "x" * 100_000
        traces = [Trace(f"r_{number}", run=f"run_{number}") for number in range(count)]
        for number, trace in enumerate(traces):
            tell(trace, said(f"user: {number} {text}"), "an answer")
        argv = [sys.executable, "-c", PEAK, command, str(kept(path, *traces))]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)
        return int(done.stderr) * 1024

    assert peak(400) - peak(100) < 10e6, "the text of 300 rollouts is 30 MB"


def test_what_is_shown_of_a_real_file_is_what_the_file_holds(file: Path) -> None:
    (trace,) = read_traces(file)
    document: dict[str, Any] = json.loads(shown("show", file, "--turn", "3", "--json"))
    assert document["id"] == trace[3].id
