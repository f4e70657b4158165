"""What others read of the traces of real agents, with their own packages, is what stands in the trace.

Rules of these tests: an export is made by the command, and read by a program that knows the format's own package and
nothing of ours; what that says is compared with the trace, not with the export.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real_exports.environments import read, validate_har
from tests.real_exports.recorded import RUNS
from triocept import Message, Text, Trace, Turn, read_traces
from triocept._canonical.form import message_key
from triocept.dialects import dialect
from triocept.exports import check_fine_tuning, flat_rows
from triocept.types import assemble

Recorded = Callable[[str], Path]
ROLES = {"developer": "system", "tool": "user"}

pytestmark = [pytest.mark.parametrize("name", RUNS), pytest.mark.timeout(3000)]


@pytest.fixture
def trace(name: str, recorded: Recorded) -> Trace:
    (trace,) = read_traces(recorded(name))
    assert trace.sealed
    assert all(turn.outcome == "answered" for turn in trace)
    return trace


@pytest.fixture
def export(name: str, recorded: Recorded, tmp_path: Path) -> Callable[[str, str], Path]:
    """Exports the trace to a format, under a name."""

    def export(to: str, out: str) -> Path:
        command = [sys.executable, "-m", "triocept", "export", "--to", to, str(recorded(name)), "-o", out]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        print(done.stderr)
        return tmp_path / out

    return export


def said(message: Message) -> Iterator[list[Any]]:
    """Role, texts, calls, and the call that it is the result of: of each message that others make of one of ours."""
    for result in message.tool_results:
        texts = [part.text for part in result.content if isinstance(part, Text) and part.text]
        yield ["tool", texts, [], result.id]
    texts = [part.text for part in message.content if isinstance(part, Text) and part.text]
    calls = [[call.id, call.name, call.parsed()] for call in message.tool_calls]
    if texts or calls or message.role == "assistant":
        yield [ROLES.get(message.role, message.role), texts, calls, None]


def answer(turn: Turn) -> Message:
    return Message("assistant", tuple(turn.response.content))


def whole(turn: Turn) -> list[list[Any]]:
    """A conversation with its answer."""
    return [each for message in (*turn.request.messages, answer(turn)) for each in said(message)]


def as_chat(message: dict[str, Any]) -> list[Any]:
    """The same of a message of chat completions; its texts are one."""
    calls = [
        [call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])]
        for call in message.get("tool_calls") or ()
    ]
    text = message.get("content") or ""
    return [message["role"], text, calls, message.get("tool_call_id")]


def as_one_text(each: list[Any]) -> list[Any]:
    role, texts, calls, result = each
    return [role, ("" if role == "assistant" else "\n\n").join(texts), calls, result]


def test_openai_has_each_thread_as_its_messages(trace: Trace, export: Callable[[str, str], Path]) -> None:
    path = export("openai", "lines.jsonl")
    lines = read("openai_lines", path)
    assert check_fine_tuning(path.read_bytes().splitlines()) == []
    assert len(lines) == len(trace.threads)
    for line, thread in zip(lines, trace.threads, strict=True):
        assert list(map(as_chat, line["messages"])) == list(map(as_one_text, whole(thread[-1])))
        names = [tool.name for tool in thread[-1].request.tools if tool.kind != "server"]
        assert [tool["function"]["name"] for tool in line["tools"]] == names


def test_each_answer_is_trained_once(trace: Trace, export: Callable[[str, str], Path]) -> None:
    lines = map(json.loads, export("openai", "lines.jsonl").read_text().splitlines())
    trained = [
        as_chat(message)[1:3]
        for line in lines
        for message in line["messages"]
        if message["role"] == "assistant" and message.get("weight", 1)
    ]
    assert sorted(map(str, trained)) == sorted(
        str(as_one_text(each)[1:3]) for turn in trace for each in said(answer(turn))
    )


def trajectories(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield document
    for each in document.get("subagent_trajectories", ()):
        yield from trajectories(each)


def test_atif_has_each_answer_and_result(name: str, trace: Trace, export: Callable[[str, str], Path]) -> None:
    folder = export("atif", "atif")
    documents = read("atif_documents", folder)
    assert documents == {path.name: json.loads(path.read_bytes()) for path in folder.iterdir()}
    all_of_them = [each for document in documents.values() for each in trajectories(document)]
    steps = [step for each in all_of_them for step in each["steps"]]
    own = {step["extra"]["turn"]: step for step in steps if step["source"] == "agent" and "extra" in step}
    assert own.keys() == {turn.id for turn in trace}
    for turn in trace:
        response, step = turn.response, own[turn.id]
        assert step["message"] == response.text
        assert [call["arguments"] for call in step.get("tool_calls", ())] == [
            call.parsed() for call in response.tool_calls
        ]
        assert step["metrics"]["prompt_tokens"] == (response.usage and response.usage.input_tokens)
    results = {result.id: result.text for turn in trace for result in turn.request.tool_results}
    observed = {
        result["source_call_id"]: result.get("content")
        for step in steps
        for result in step.get("observation", {"results": ()})["results"]
    }
    assert observed == results
    references = [
        reference["trajectory_id"]
        for step in steps
        for result in step.get("observation", {"results": ()})["results"]
        for reference in result.get("subagent_trajectory_ref", ())
    ]
    assert len(references) == RUNS[name].sub_agents
    assert set(references) <= {each["trajectory_id"] for each in all_of_them}
    continued = [
        document["continued_trajectory_ref"]
        for document in documents.values()
        if "continued_trajectory_ref" in document
    ]
    assert len(continued) == RUNS[name].compactions
    assert set(continued) <= documents.keys()


def test_inspect_has_each_call_with_all_that_was_said(
    name: str, trace: Trace, export: Callable[[str, str], Path]
) -> None:
    logs = read("inspect_eval", export("inspect", "log.json"))
    assert logs["json"] == logs["eval"]
    assert logs["json"]["status"] == "success"
    (sample,) = logs["json"]["samples"]
    assert sample["scores"] == {"proof": 1.0}
    assert sample["calls"].keys() == {turn.id for turn in trace}
    for turn in trace:
        call, response = sample["calls"][turn.id], turn.response
        assert response is not None
        assert call["input"] == [each for message in turn.request.messages for each in said(message)]
        assert [call["output"]] == list(said(answer(turn)))
        tools = [tool for tool in turn.request.tools if tool.kind != "server"]
        assert call["tools"] == [[tool.name, tool.description or ""] for tool in tools]
        usage = call["usage"]
        told = [
            usage[field] or 0
            for field in ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")
        ]
        assert sum(told) == response.usage.input_tokens
    main = [turn for turn in trace if trace.conversations[turn.id].kind == "main"]
    assert sample["messages"] == whole(main[-1])
    results = {result.id: result.text for turn in trace for result in turn.request.tool_results}
    assert sample["tools"] == results


def test_inspect_has_a_span_for_each_agent_and_an_event_for_each_compaction(
    name: str, trace: Trace, export: Callable[[str, str], Path]
) -> None:
    (sample,) = read("inspect_eval", export("inspect", "log.json"))["json"]["samples"]
    spans = sample["spans"]
    agents = [span for span, (_, kind, _) in spans.items() if kind == "agent"]
    (main,) = [span for span, (called, _, _) in spans.items() if called == "main"]
    assert len(agents) == 1 + RUNS[name].sub_agents
    above = [spans[spans[span][2]] for span in agents if span != main]
    assert all(kind == "tool" and parent == main for _, kind, parent in above)
    assert sorted(sample["ended"]) == sorted(spans)
    kinds = {"main": "main", "sub_agent": "sub-agent", "side": "side call"}
    for turn in trace:
        called, _, _ = spans[sample["calls"][turn.id]["span"]]
        assert called.startswith(kinds[trace.conversations[turn.id].kind])
    assert len(sample["behind_compactions"]) == RUNS[name].compactions


def test_verifiers_has_each_thread_as_a_branch(
    name: str, trace: Trace, export: Callable[[str, str], Path], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    export("verifiers", "run/traces.jsonl")
    (episode,) = read("verifiers_episodes", tmp_path / "run")
    assert episode["ok"]
    (one,) = episode["traces"]
    assert one["is_completed"]
    assert one["reward"] == 1.0
    found = sorted(str([flat(message) for message in branch["messages"]]) for branch in one["branches"])
    wanted = sorted(str(list(map(as_one_text, whole(thread[-1])))) for thread in trace.threads)
    assert found == wanted
    nodes = {(number, kind) for number, _, kind in one["links"]}
    assert len(nodes) == len(one["links"])
    kinds = [kind for _, _, kind in one["links"]]
    assert kinds.count("subagent_call") == RUNS[name].sub_agents
    assert kinds.count("compaction") == RUNS[name].compactions
    assert [tokens for _, _, tokens in one["calls"]] == [
        turn.response and turn.response.usage and turn.response.usage.input_tokens for turn in trace
    ]


def flat(message: dict[str, Any]) -> list[Any]:
    calls = [
        [call["id"], call["name"], json.loads(call["arguments"])] for call in message.get("tool_calls") or ()
    ]
    return [message["role"], message.get("content") or "", calls, message.get("tool_call_id")]


def test_mitmproxy_and_the_validator_have_each_call_as_a_flow(
    trace: Trace, export: Callable[[str, str], Path]
) -> None:
    path = export("har", "calls.har")
    assert validate_har(path) == {"entries": len(trace)}
    flows = read("har_mitmproxy", path)
    turns = sorted(trace, key=lambda turn: turn.started_at)
    for flow, turn in zip(flows, turns, strict=True):
        spoken = dialect(turn.dialect)
        asked = spoken.parse_request(json.loads(flow["asked"]))
        assert list(map(message_key, asked.messages)) == list(map(message_key, turn.request.messages))
        assert flow["status"] == 200
        if turn.wire is not None:
            assert flow["asked"].encode() == turn.wire.body
            assert flow["answered"].encode() == turn.wire.answer
            assert flow["url"].endswith(turn.wire.url)
        parser = spoken.stream_parser()
        answered = assemble([*parser.feed(flow["answered"].encode()), *parser.close()])
        assert answered.text == turn.response.text
        assert [call.parsed() for call in answered.tool_calls] == [
            call.parsed() for call in turn.response.tool_calls
        ]


@pytest.mark.parametrize("to", ["parquet", "jsonl"])
def test_datasets_and_pandas_have_each_turn_as_a_row(
    to: str, trace: Trace, export: Callable[[str, str], Path]
) -> None:
    found = read("rows", export(to, f"rows.{to}"))
    rows = list(flat_rows(trace))
    assert found["count"] == len(rows)
    assert sorted(found["columns"]) == sorted(rows[0])
    for row, wanted in zip(found["rows"], rows, strict=True):
        assert without_nulls(row["messages"]) == wanted["messages"]
        assert without_nulls(row["answer"]) == wanted["answer"]
        tools = json.loads(row["tools"]) if isinstance(row["tools"], str) else row["tools"]
        assert tools == wanted["tools"], "with no key that a tool has not"
        plain = {name: value for name, value in wanted.items() if isinstance(value, str | int | bool)}
        assert {name: row[name] for name in plain} == plain


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def test_otlp_has_a_span_for_each_call_in_that_of_its_agent(
    name: str, trace: Trace, export: Callable[[str, str], Path]
) -> None:
    (request,) = read("otlp_json", export("otlp-content", "spans.jsonl"))
    (resource,) = request["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    spans = {span["spanId"]: span for span in scope["spans"]}
    assert len({span["traceId"] for span in spans.values()}) == 1
    calls = {
        attributes(span)["triocept.turn"]: span for span in spans.values() if span["name"].startswith("chat ")
    }
    assert calls.keys() == {turn.id for turn in trace}
    assert len(spans) == len(trace) + 1 + RUNS[name].sub_agents
    for turn in trace:
        told = attributes(calls[turn.id])
        assert int(told["gen_ai.usage.input_tokens"]) == (
            turn.response.usage and turn.response.usage.input_tokens
        )
        around = spans[calls[turn.id]["parentSpanId"]]
        of_sub_agent = trace.conversations[turn.id].kind == "sub_agent"
        assert (around["name"] == "invoke_agent sub-agent") == of_sub_agent
        (output,) = json.loads(told["gen_ai.output.messages"])
        texts = [part["content"] for part in output["parts"] if part["type"] == "text"]
        assert "".join(texts) == turn.response.text


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}
