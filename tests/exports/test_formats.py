"""What each format holds of a trace that has something of everything, and what it counts as lost.

That others can read it is tried with their own packages: `nox -s exports`, in `tests/real_exports`.
"""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.exports.sample import (
    COMPACTED,
    SUMMARY,
    SYSTEM,
    TASK,
    child,
    said,
    sample,
    trace_of,
    turn,
    with_tokens,
)
from triocept import Message, Response, Text, ToolCall, ToolResult, Trace, Usage
from triocept._trace.entries import Opening
from triocept._trace.trace import TraceWriter
from triocept.dialects import DIALECTS
from triocept.exports import (
    Losses,
    atif_documents,
    check_fine_tuning,
    fine_tuning_lines,
    flat_rows,
    har_log,
    inspect_log,
    otlp_document,
    verifiers_episode,
    write_export,
)
from triocept.traces import Score, WireView
from triocept.types import Media, Reasoning

# Lines


@pytest.mark.parametrize("name", ["jsonl", "openai", "verifiers", "otlp-content"])
def test_a_line_is_one_to_everybody(name: str, tmp_path: Path) -> None:
    """`str.splitlines` ends one at these, which JSON lets stand as they are."""
    text = "one\u2028two\u2029three\x85four"
    write_export(
        [trace_of(turn(0, (Message("user", (Text(text),)),), Response.of(text)))], name, tmp_path / "o"
    )
    (line,) = (tmp_path / "o").read_text().splitlines()
    assert any(text in each for each in texts_in(json.loads(line)))


def texts_in(value: Any) -> list[str]:
    """All texts of a document, each as it is."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in texts_in(each)]


# Flat rows


def test_a_flat_row_has_the_whole_conversation_in_the_words_of_chat_completions() -> None:
    losses = Losses()
    rows = list(flat_rows(sample(), losses))
    row = rows[4]
    assert [message["role"] for message in row["messages"]] == [
        *("system", "user", "assistant", "tool", "tool", "tool", "user")
    ]
    assert row["messages"][0]["content"] == "Be brief.\n\nBe kind."
    answer = row["messages"][2]
    assert answer["reasoning_content"] == "Where is it?"
    assert answer["tool_calls"][0] == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "search", "arguments": '{"query":"file"}'},
    }
    assert json.loads(answer["tool_calls"][1]["function"]["arguments"]) == {"input": "*** Begin"}
    assert row["messages"][3] == {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": "No such file.",
        "is_error": True,
    }
    assert row["answer"] == {"role": "assistant", "content": "Done."}
    assert [tool["function"]["name"] for tool in row["tools"]] == ["search", "patch"]
    assert losses.counts["service calls"] == 1
    assert losses.counts["tools that their provider runs"] == 1, "once, though every call offers it"


def test_a_flat_row_says_what_became_of_the_call_and_who_made_it() -> None:
    rows = list(flat_rows(sample()))
    assert [row["outcome"] for row in rows] == ["answered"] * 3 + ["failed"] + ["answered"] * 4
    assert (rows[3]["error"], rows[3]["error_message"], rows[3]["status"]) == ("ValueError", "no", 500)
    assert rows[3]["answer"] is None
    assert rows[3]["stop_reason"] is None
    assert [row["kind"] for row in rows] == [
        "side", "main", "sub_agent", "main", "main", "sub_agent", "main", "main",
    ]  # fmt: skip
    assert (rows[2]["conversation"], rows[2]["parent_conversation"]) == ("s/1", "s")
    assert rows[4]["parent"] == "x1"
    assert (rows[1]["input_tokens"], rows[1]["cached_tokens"], rows[1]["estimated"]) == (100, 60, False)
    assert rows[2]["input_tokens"] is None, "nobody counted, which is not 0"
    assert rows[0]["notes"] == {"reward": 0}
    assert rows[0]["scores"] == {"reward": 0.5}
    assert (rows[0]["attended"], rows[0]["rewritten"]) == (True, False)
    assert {tuple(row) for row in rows} == {tuple(rows[0])}, "the same columns in every row"


def test_a_flat_row_has_the_ids_and_log_probabilities_of_its_tokens() -> None:
    row = next(flat_rows(with_tokens([1, 2, 3, 4, 5])))
    assert (row["prompt_ids"], row["completion_ids"], row["logprobs"]) == ([1, 2], [3, 4], [-0.5, -0.5])
    assert row["token_gaps"] == []
    assert (row["temperature"], row["sampled_temperature"], row["stop_included"]) == (0.5, 0.75, True)


# OpenAI's fine-tuning lines


def weights(line: dict[str, Any]) -> list[int]:
    return [each.get("weight", 1) for each in line["messages"] if each["role"] == "assistant"]


def test_an_answer_that_two_threads_share_is_trained_once() -> None:
    lines = list(fine_tuning_lines(sample()))
    answers = [
        [each["content"] for each in line["messages"] if each["role"] == "assistant"] for line in lines
    ]
    assert answers == [
        ["Files"], ["I look.", "Done."], ["", "Three files."], ["I look.", SUMMARY.text], ["All done."],
    ]  # fmt: skip
    assert list(map(weights, lines)) == [[1], [1, 1], [1, 1], [0, 1], [1]]


def test_what_the_model_did_not_say_here_is_not_trained() -> None:
    told = (
        Message("user", (Text("2+2?"),)),
        Message("assistant", (Text("4"),)),
        Message("user", (Text("3+3?"),)),
    )
    (line,) = fine_tuning_lines(trace_of(turn(0, told, Response.of("6"))))
    assert weights(line) == [0, 1]


def test_a_line_passes_the_checks_and_says_what_it_lost() -> None:
    losses = Losses()
    lines = [json.dumps(line) for line in fine_tuning_lines(sample(), losses)]
    assert check_fine_tuning(lines) == []
    counts = losses.counts
    assert counts["calls that were not answered"] == 1
    assert counts["marks of tools' errors"] == 2, "in both lines that hold it"
    assert counts["calls of custom tools"] == 2
    assert counts["pieces of reasoning"] == 2
    assert "2 calls of custom tools" in str(losses)
    for line in map(json.loads, lines):
        assert line.keys() <= {"messages", "tools", "parallel_tool_calls"}


def test_a_picture_is_a_part_of_a_line() -> None:
    line = list(fine_tuning_lines(sample()))[1]
    assert line["messages"][1]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,aGk="},
    }


@pytest.mark.parametrize("arguments", ["{broken", "[1]"])
def test_arguments_that_are_no_object_keep_the_models_words_and_are_not_trained(arguments: str) -> None:
    broken = Response.of(ToolCall("search", arguments, "call_1"))
    results = Message("user", (ToolResult(id="call_1", content=(Text("No such tool."),)),))
    turns = turn(0, (TASK,), broken), turn(1, (TASK, said(broken), results), Response.of("ok"))
    losses = Losses()
    (line,) = fine_tuning_lines(trace_of(*turns), losses)
    _, answer, _, last = line["messages"]
    assert answer["tool_calls"][0]["function"]["arguments"] == arguments
    assert (answer["weight"], last.get("weight", 1)) == (0, 1)
    assert "with weight 0: 1 answer with a call whose arguments are not an object" in str(losses)
    assert check_fine_tuning([json.dumps(line)]) == []
    assert check_fine_tuning([json.dumps(line).replace('"weight": 0', '"weight": 1')]) != []
    assert list(fine_tuning_lines(trace_of(turns[0]))) == []
    (episode,) = verifiers_episode(trace_of(*turns))["traces"]
    assert episode["nodes"][1]["message"]["tool_calls"][0]["arguments"] == arguments
    rows = list(flat_rows(trace_of(*turns)))
    assert rows[0]["answer"]["tool_calls"][0]["function"]["arguments"] == arguments


def test_inspect_is_told_that_arguments_cannot_be_parsed_and_finds_a_choice_of_a_failed_call() -> None:
    broken = Response.of(ToolCall("search", "{broken", "call_1"), ToolCall("search", "{}", "call_2"))
    turns = turn(0, (TASK,), broken), turn(1, (TASK,), None)
    (one,) = inspect_log([trace_of(*turns)])["samples"]
    calls = one["output"]["choices"][0]["message"]["tool_calls"]
    assert [call.get("parse_error") for call in calls] == ["the arguments are not a JSON object", None]
    failed = next(event for event in one["events"] if event["event"] == "model" and event.get("error"))
    assert [choice["stop_reason"] for choice in failed["output"]["choices"]] == ["unknown"]
    assert failed["output"]["error"] == failed["error"] == "ValueError: no"


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("stream", [False, True])
def test_an_archive_is_the_same_whenever_it_is_exported(
    dialect: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = msgspec.structs.replace(turn(0, (TASK,), None).request, dialect=dialect, stream=stream)
    answer = Response((Text("ok"),), id="resp_1", model="m", usage=Usage(input_tokens=1, output_tokens=1))
    turns = [
        msgspec.structs.replace(turn(number, (TASK,), response), dialect=dialect, request=asked)
        for number, response in enumerate([answer, None])
    ]
    first = json.dumps(har_log([trace_of(*turns)]))
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert json.dumps(har_log([trace_of(*turns)])) == first
    if dialect.startswith("openai"):
        assert re.search(r"created(_at)?\W+1000\D", first), "answered at 1000.5"


def test_images_are_parts_of_atifs_steps_and_of_its_results() -> None:
    seen = Media(kind="image", data="aGk=", media_type="image/webp")
    results = Message("user", (ToolResult(id="call_1", content=(Text("A screen."), seen)),))
    called = Response.of(ToolCall("look", "{}", "call_1"))
    odd = Message("user", (Text("And these."), Media(kind="image", data="x", media_type="image/x")))
    losses = Losses()
    turns = turn(0, (TASK,), called), turn(1, (TASK, said(called), results, odd), Response.of("ok"))
    (document,) = atif_documents(trace_of(*turns), losses).values()
    asked, look, further, _ = document["steps"]
    assert asked["message"] == [
        {"type": "text", "text": "Find the file."},
        {"type": "image", "source": {"media_type": "image/png", "path": "data:image/png;base64,aGk="}},
    ]
    assert look["observation"]["results"][0]["content"] == [
        {"type": "text", "text": "A screen."},
        {"type": "image", "source": {"media_type": "image/webp", "path": "data:image/webp;base64,aGk="}},
    ]
    assert further["message"] == "And these."
    assert losses.counts["images, sounds and files"] == 1


def scored(**scores: float) -> Trace:
    trace = trace_of(turn(0, (TASK,), Response.of("ok")))
    for name, value in scores.items():
        TraceWriter(trace).add(Score(rollout="r", run="run_1", name=name, value=value, at=2000.0))
    return trace


def rewards_of(trace: Trace, **more: str) -> tuple[dict[str, float], dict[str, float]]:
    (found,) = verifiers_episode(trace, **more)["traces"]
    return found["rewards"], found["metrics"]


def test_one_score_is_the_reward_and_all_others_are_metrics() -> None:
    """verifiers adds rewards up: a count of tokens would be one."""
    assert rewards_of(scored(right=0.75)) == ({"right": {"score": 0.75}}, {})
    with pytest.warns(UserWarning, match="right, tokens all become metrics"):
        assert rewards_of(scored(right=0.75, tokens=5000)) == ({}, {"right": 0.75, "tokens": 5000})
    both = scored(right=0.75, tokens=5000)
    assert rewards_of(both, reward="right") == ({"right": {"score": 0.75}}, {"tokens": 5000})
    assert rewards_of(scored(tokens=5000), reward="right") == ({"right": None}, {"tokens": 5000})
    assert rewards_of(scored()) == ({}, {})


def rewards_written(path: Path, *traces: Trace) -> list[tuple[dict[str, object], dict[str, float]]]:
    """The rewards and metrics of each line, as `write_export` writes these traces."""
    write_export(iter(traces), "verifiers", path, replace=True)
    episodes = [json.loads(line)["traces"][0] for line in path.read_text().splitlines()]
    return [(episode["rewards"], episode["metrics"]) for episode in episodes]


def test_which_score_is_the_reward_is_decided_once_for_all_rollouts_of_a_file(tmp_path: Path) -> None:
    """Else the reward of one line is a metric of the next."""
    path = tmp_path / "out"
    both, one, other = scored(right=1, tokens=2), scored(right=0.5), scored(tokens=3)
    for traces in ((one, both), (both, one), (one, other), (one, scored(), other)):
        with pytest.warns(UserWarning, match="right, tokens all become metrics") as warned:
            found = rewards_written(path, *traces)
        assert found == [({}, dict(trace.scores)) for trace in traces]
        assert len(warned) == 1
    assert rewards_written(path, one, scored()) == [({"right": {"score": 0.5}}, {}), ({"right": None}, {})]
    assert rewards_written(path, scored(), scored()) == [({}, {}), ({}, {})]


def test_a_reward_is_for_verifiers_alone_and_is_the_score_of_some_rollout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the format verifiers, not openai"):
        write_export([scored(right=1)], "openai", tmp_path / "out", reward="right")
    with pytest.raises(
        ValueError, match=r"no rollout has the score 'rihgt', .* the scores are right, tokens"
    ):
        write_export([scored(right=1, tokens=2), scored()], "verifiers", tmp_path / "out", reward="rihgt")
    assert not [*tmp_path.iterdir()]
    write_export([scored(right=1, tokens=2), scored()], "verifiers", tmp_path / "out", reward="right")
    assert '"right":{"score":1}' in (tmp_path / "out").read_text()


def test_a_thread_whose_only_answer_says_nothing_is_no_line() -> None:
    """A model that has only thought, until its tokens were used up: there is nothing to train."""
    silent = Response((Reasoning("Hm."),), stop_reason="max_tokens")
    assert list(fine_tuning_lines(trace_of(turn(0, (TASK,), silent)))) == []


def test_the_lines_are_not_taken_for_a_text() -> None:
    with pytest.raises(TypeError, match="splitlines"):
        check_fine_tuning(json.dumps(GOOD))


def test_a_thread_without_an_answer_of_its_own_is_no_line() -> None:
    assert list(fine_tuning_lines(trace_of(turn(0, (TASK,), None)))) == []
    told = (TASK, Message("assistant", (Text("one"),)), Message("user", (Text("b"),)))
    lines = list(fine_tuning_lines(trace_of(turn(0, (TASK,), Response.of("one")), turn(1, told, None))))
    assert [line["messages"][-1]["content"] for line in lines] == ["one"]


GOOD: dict[str, Any] = {
    "messages": [{"role": "user", "content": "a"},
     {"role": "assistant", "content": "",
      "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
     {"role": "tool", "tool_call_id": "c", "content": "b"}, {"role": "assistant", "content": "d"}],
    "tools": [{"type": "function", "function": {"name": "f"}}],
}  # fmt: skip


def broken(*path: str | int, value: object) -> str:
    """A good line with another value there; `...` takes it out."""
    line = json.loads(json.dumps(GOOD))
    *way, last = path
    place = line
    for name in way:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(line)


@pytest.mark.parametrize(("line", "problem"), [
    ("{", "not valid JSON"),
    ("[]", "messages: must be a list of objects"),
    (broken("messages", 3, value=...), "messages: the last message must be the model's"),
    (broken("messages", 2, "tool_call_id", value="x"), "messages[2].tool_call_id: no earlier message contains a call"),
    (broken("messages", 0, "content", value=None), "messages[0].content: must be a text"),
    (broken("messages", 0, "role", value="narrator"), "messages[0].role: must be system, user, "),
    (broken("messages", 3, "content", value=""), "messages[3].content: must not be empty"),
    (broken("messages", 3, "weight", value=2), "messages[3].weight: must be 0 or 1"),
    (broken("messages", 0, "weight", value=1), "messages[0].weight: only messages of the model"),
    (broken("messages", 1, "tool_calls", 0, "function", "arguments", value="{"),
     "messages[1].tool_calls[0].function.arguments: must be a JSON object"),
    (broken("tools", 0, "function", "name", value=5), "tools[0].function.name: must be a text"),
])  # fmt: skip
def test_what_is_wrong_with_a_line_is_said_with_its_place(line: str, problem: str) -> None:
    assert check_fine_tuning([json.dumps(GOOD)]) == []
    found = check_fine_tuning([json.dumps(GOOD), line])
    assert any(each.startswith(f"2: {problem}") for each in found), found


def test_a_line_of_which_nothing_is_trained_is_wrong() -> None:
    line = json.loads(json.dumps(GOOD))
    for message in line["messages"]:
        if message["role"] == "assistant":
            message["weight"] = 0
    assert check_fine_tuning([json.dumps(line)]) == ["1: messages: every message of the model has weight 0"]


# ATIF


def test_a_trajectory_has_its_steps_its_sub_agents_and_what_follows_a_compaction() -> None:
    documents = atif_documents(sample())
    assert list(documents) == ["r.json", "r.cont-1.json"]
    first, second = documents.values()
    assert first["continued_trajectory_ref"] == "r.cont-1.json"
    assert [step["source"] for step in first["steps"]] == [
        "system", "user", "agent", "user", "agent", "user", "agent",
    ]  # fmt: skip
    assert [step["step_id"] for step in first["steps"]] == [1, 2, 3, 4, 5, 6, 7]
    assert first["steps"][3]["message"] == "Go on."
    assert first["steps"][6]["message"] == SUMMARY.text
    assert [step["message"] for step in second["steps"]] == [
        "Be brief.\n\nBe kind.",
        COMPACTED.text,
        "All done.",
    ]
    assert second["extra"]["summarised_by"] == "x6"
    assert first["extra"]["scores"] == {"reward": 0.5}
    assert first["agent"]["name"] == "claude-cli"
    assert first["agent"]["version"] == "2.1.0"


def test_the_results_of_tools_are_the_observation_of_the_step_that_called_them() -> None:
    first = atif_documents(sample())["r.json"]
    calling = first["steps"][2]
    assert calling["reasoning_content"] == "Where is it?"
    assert [call["arguments"] for call in calling["tool_calls"]] == [
        *({"query": "file"}, {"input": "*** Begin"}, {"prompt": "SUBTASK: count all the files"})
    ]
    failed, patched, began = calling["observation"]["results"]
    assert failed == {"source_call_id": "call_1", "content": "No such file.", "extra": {"is_error": True}}
    assert patched == {"source_call_id": "call_2", "content": "Patched."}
    side, sub = first["subagent_trajectories"]
    assert began["subagent_trajectory_ref"] == [{"trajectory_id": sub["trajectory_id"]}]
    assert [step["message"] for step in sub["steps"]][1::2] == [TASK_OF_SUB, "Three files."]
    assert side["extra"]["kind"] == "side"
    assert calling["metrics"]["prompt_tokens"] == 100
    assert calling["metrics"]["cached_tokens"] == 60


TASK_OF_SUB = "SUBTASK: count all the files"


def test_results_of_calls_whose_ids_were_made_anew_are_found_by_the_order() -> None:
    calls = [ToolCall("search", "{}", "call_1"), ToolCall("search", "{}", "call_2")]
    renamed = tuple(msgspec.structs.replace(call, id=f"new_{call.id}") for call in calls)
    results = tuple(ToolResult(id=call.id, content=(Text(f"of {call.id}"),)) for call in renamed)
    told = (TASK, Message("assistant", renamed), Message("user", results))
    trace = trace_of(turn(0, (TASK,), Response(tuple(calls))), turn(1, told, Response.of("ok")))
    (document,) = atif_documents(trace).values()
    assert document["steps"][1]["observation"]["results"] == [
        {"source_call_id": "call_1", "content": "of new_call_1"},
        {"source_call_id": "call_2", "content": "of new_call_2"},
    ]


def test_what_a_trajectory_cannot_say_is_counted() -> None:
    losses = Losses()
    atif_documents(sample(), losses)
    assert losses.counts["calls that were not answered"] == 1
    assert losses.counts["opaque blobs of reasoning"] == 1
    assert losses.counts["service calls"] == 1
    assert atif_documents(trace_of(turn(0, (TASK,), None))) == {}


# Inspect


def events(sample_: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in sample_["events"] if event["event"] == kind]


def test_a_log_of_inspect_has_all_that_it_must_have() -> None:
    log = inspect_log([sample()])
    assert log["status"] == "success"
    assert {"created", "task", "dataset", "model", "config"} <= log["eval"].keys()
    (one,) = log["samples"]
    assert {"id", "epoch", "input", "target"} <= one.keys()
    assert one["scores"] == {"reward": {"value": 0.5}}
    assert [each["name"] for each in log["results"]["scores"]] == ["reward"]
    for event in events(one, "model"):
        assert {"model", "input", "tools", "tool_choice", "config", "output"} <= event.keys()


def test_a_conversation_is_a_span_of_an_agent_and_a_compaction_an_event_before_what_follows() -> None:
    (one,) = inspect_log([sample()])["samples"]
    spans = {event["id"]: event for event in events(one, "span_begin")}
    assert sorted((span["name"], span.get("type")) for span in spans.values()) == [
        *(
            ("agent", "tool"), ("main", "agent"), ("side call", None), ("solvers", "solvers"),
            ("sub-agent 1", "agent"),
        ),
    ]  # fmt: skip
    above = {span["name"]: spans[span["parent_id"]]["name"] for span in spans.values() if "parent_id" in span}
    assert above == {"main": "solvers", "side call": "main", "agent": "main", "sub-agent 1": "agent"}
    number = next(n for n, event in enumerate(one["events"]) if event["event"] == "compaction")
    assert one["events"][number]["type"] == "summary"
    assert one["events"][number + 1]["metadata"]["turn"] == "x7"


def test_spans_begin_within_those_around_them_and_end_before_them() -> None:
    (one,) = inspect_log([sample()])["samples"]
    open_: list[str] = []
    for event in one["events"]:
        if event["event"] == "span_begin":
            assert event.get("parent_id") in (None, *open_)
            open_.append(event["id"])
        elif event["event"] == "span_end":
            open_.remove(event["id"])
        else:
            assert event["span_id"] in open_
    assert open_ == []
    assert one["events"][-1]["id"] == "solvers"


def test_what_is_said_often_is_written_once() -> None:
    (one,) = inspect_log([sample()])["samples"]
    asked = {event["metadata"]["turn"]: event["input_refs"] for event in events(one, "model")}
    pool = one["events_data"]["messages"]
    messages = [pool[n] for start, stop in asked["x4"] for n in range(start, stop)]
    assert [message["role"] for message in messages] == [
        *("system", "user", "assistant", "tool", "tool", "tool", "user")
    ]
    assert len({message["id"] for message in pool}) == len(pool)
    assert len([message for message in pool if message["role"] == "system"]) == 1
    (attached,) = one["attachments"].values()
    assert attached.startswith("Search the web")
    described = events(one, "model")[1]["tools"][0]["description"]
    assert described == f"attachment://{next(iter(one['attachments']))}"


def test_the_input_of_inspect_has_no_token_of_a_cache() -> None:
    (one,) = inspect_log([sample()])["samples"]
    usage = next(event for event in events(one, "model") if event["metadata"]["turn"] == "x1")["output"][
        "usage"
    ]
    assert (usage["input_tokens"], usage["input_tokens_cache_read"], usage["input_tokens_cache_write"]) == (
        30,
        60,
        10,
    )
    assert usage["total_tokens"] == 120


def test_a_failed_call_and_a_service_call_are_events_too() -> None:
    losses = Losses()
    (one,) = inspect_log([sample()], losses)["samples"]
    assert [event.get("error") for event in events(one, "model")].count("ValueError: no") == 1
    (info,) = events(one, "info")
    assert info["data"]["name"] == "lookup"
    assert {event["id"] for event in events(one, "tool")} == {"call_1", "call_2", "call_3", "call_4"}
    assert losses.counts == {
        "words of JSON Schemas that Inspect does not know": 1,
        "custom tools": 1,
        "tools that their provider runs": 1,
        "parts that only their own dialect can read": 2,
    }


def test_another_rollout_of_one_id_is_another_epoch() -> None:
    log = inspect_log([sample(), sample()])
    assert [(each["id"], each["epoch"]) for each in log["samples"]] == [("r", 1), ("r", 2)]


# verifiers


def paths(trace: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """From each leaf to its root, as roots first."""
    nodes = trace["nodes"]
    leaves = set(range(len(nodes))) - {node["parent"] for node in nodes}
    found = []
    for leaf in sorted(leaves):
        path, at = [], leaf
        while at is not None:
            path.append(nodes[at])
            at = nodes[at]["parent"]
        found.append(path[::-1])
    return found


def test_an_episode_has_all_that_it_must_have() -> None:
    episode = verifiers_episode(sample())
    assert episode["task"].keys() == {"type", "data"}
    (trace,) = episode["traces"]
    assert trace["task"] == episode["task"]
    assert trace["agent"]["config"].keys() <= {"model"}, "a word that it does not know is an error"
    assert trace["rewards"] == {"reward": {"score": 0.5}}
    assert {call["finish_reason"] for call in trace["calls"]} <= {"stop", "length", "tool_calls", None}
    assert [error["type"] for error in trace["errors"]] == ["ValueError"]
    assert trace["is_completed"]


def test_a_message_is_a_node_once_and_branches_are_conversations() -> None:
    (trace,) = verifiers_episode(sample())["traces"]
    said = [[node["message"]["content"] for node in path if node["sampled"]] for path in paths(trace)]
    assert said == [
        ["Files"], ["I look.", "Done."], ["", "Three files."], ["I look.", SUMMARY.text], ["All done."],
    ]  # fmt: skip
    links = [
        (link["type"], trace["nodes"][link["node"]]["message"]["content"])
        for node in trace["nodes"]
        for link in node.get("semantic_parents", ())
    ]
    assert links == [("subagent_call", "I look."), ("compaction", SUMMARY.text)]


def test_the_tokens_of_a_branch_are_those_that_were_read_and_sampled() -> None:
    (trace,) = verifiers_episode(with_tokens([1, 2, 3, 4, 5, 6]))["traces"]
    assert [call["sampling"]["temperature"] for call in trace["calls"]] == [0.75, 0.75]
    (path,) = paths(trace)
    assert [id_ for node in path for id_ in node.get("token_ids", ())] == [1, 2, 3, 4, 5, 6, 8]
    assert [flag for node in path for flag in node.get("mask", ())] == [
        *[False] * 2,
        *[True] * 2,
        *[False] * 2,
        True,
    ]
    assert [len(node.get("logprobs", ())) for node in path if node["sampled"]] == [2, 1]


def test_a_call_that_did_not_read_the_tokens_before_it_has_a_branch_of_its_own() -> None:
    (trace,) = verifiers_episode(with_tokens([1, 2, 3, 9, 5, 6]))["traces"]
    ids = [[id_ for node in path for id_ in node.get("token_ids", ())] for path in paths(trace)]
    assert ids == [[1, 2, 3, 4], [1, 2, 3, 9, 5, 6, 8]]


def test_a_call_that_is_not_to_be_trained_on_is_masked_out() -> None:
    first, second = with_tokens([1, 2, 3, 4, 5, 6])
    assert first.tokens is not None
    short = msgspec.structs.replace(first.tokens, probabilities=b"", gaps=("logprob_count",))
    trace = trace_of(msgspec.structs.replace(first, tokens=short), second)
    (told,) = verifiers_episode(trace)["traces"]
    (path,) = paths(told)
    assert [id_ for node in path for id_ in node.get("token_ids", ())] == [1, 2, 3, 4, 5, 6, 8]
    assert [flag for node in path for flag in node.get("mask", ())] == [*[False] * 6, True]
    assert [node.get("logprobs", []) for node in path if node["sampled"]] == [[], [-0.5]]


# HAR


def check_har(value: Any, *wanted: str) -> None:
    assert set(wanted) <= value.keys(), set(wanted) - value.keys()


def test_an_archive_has_every_field_that_har_wants_known_or_not() -> None:
    log = har_log([sample(), child()])["log"]
    check_har(log, "version", "creator", "pages", "entries")
    assert [page["title"] for page in log["pages"]] == ["rollout r", "rollout c"]
    for page in log["pages"]:
        check_har(page, "startedDateTime", "id", "title", "pageTimings")
    assert len(log["entries"]) == 9
    for entry in log["entries"]:
        check_har(entry, "startedDateTime", "time", "request", "response", "cache", "timings", "pageref")
        check_har(entry["timings"], "send", "wait", "receive")
        request, response = entry["request"], entry["response"]
        both = ("httpVersion", "cookies", "headers", "headersSize", "bodySize")
        check_har(request, "method", "url", "queryString", "postData", *both)
        check_har(response, "status", "statusText", "content", "redirectURL", *both)
        check_har(response["content"], "size", "mimeType", "text")
        assert "headers, URL and bytes differ from those on the wire" in entry["comment"]


def test_an_entry_has_what_the_dialect_would_write() -> None:
    entries = har_log([sample()])["log"]["entries"]
    failed, answered = entries[3], entries[4]
    assert answered["request"]["url"] == "http://triocept.invalid/rollout/r/v1/messages"
    body = json.loads(answered["request"]["postData"]["text"])
    assert body["messages"][0]["content"][0] == {"type": "text", "text": "Find the file."}
    assert body["system"]
    assert answered["response"]["status"] == 200
    assert answered["response"]["content"]["mimeType"] == "text/event-stream"
    assert "message_stop" in answered["response"]["content"]["text"]
    assert failed["response"]["status"] == 500
    assert json.loads(failed["response"]["content"]["text"])["error"]["message"] == "no"


def test_an_entry_of_a_call_that_was_kept_is_as_it_went() -> None:
    wire = WireView(
        method="POST",
        url="/rollout/r/v1/messages?beta=true",
        headers={"host": "127.0.0.1:5", "content-type": "application/json", "x-api-key": "[redacted]"},
        body=b'{"a":1}',
        body_size=7,
        status=200,
        answer_headers={"content-type": "text/event-stream"},
        answer=b"\xff\xfe",
        answer_size=9,
    )
    one = msgspec.structs.replace(turn(0, (TASK,), Response.of("ok")), wire=wire)
    losses = Losses()
    (entry,) = har_log([trace_of(one)], losses)["log"]["entries"]
    request, response = entry["request"], entry["response"]
    check_har(request, "method", "url", "queryString", "postData", "httpVersion", "cookies", "headers")
    check_har(response, "status", "statusText", "content", "redirectURL", "httpVersion", "cookies", "headers")
    assert request["url"] == "http://127.0.0.1:5/rollout/r/v1/messages?beta=true"
    assert request["queryString"] == [{"name": "beta", "value": "true"}]
    assert request["postData"]["text"] == '{"a":1}'
    assert {"name": "x-api-key", "value": "[redacted]"} in request["headers"]
    assert response["content"]["text"] == "//4="
    assert response["content"]["encoding"] == "base64"
    assert response["content"]["comment"] == "incomplete: cut after 8 MiB, or omitted by the recorder"
    assert "as it went over the wire" in entry["comment"]
    assert losses.counts == {"conversations' names": 1, "turns' notes": 1}


def test_a_call_that_nobody_waited_for_has_no_status() -> None:
    (entry,) = har_log([trace_of(turn(0, (TASK,), None, status=None))])["log"]["entries"]
    assert entry["response"]["status"] == 0
    assert entry["response"]["comment"] == "no client was connected to receive the answer"


def test_a_dialect_that_is_not_known_here_is_said() -> None:
    losses = Losses()
    one = msgspec.structs.replace(turn(0, (TASK,), Response.of("ok")), dialect="shout")
    (entry,) = har_log([trace_of(one)], losses)["log"]["entries"]
    assert "this program does not know the dialect shout" in entry["request"]["postData"]["comment"]
    assert losses.counts["bodies that their dialects cannot write"] == 2


# Spans


def spans(document: dict[str, Any]) -> list[dict[str, Any]]:
    (resource,) = document["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    return [{**span, "attributes": attributes(span)} for span in scope["spans"]]


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def test_a_rollout_is_a_trace_of_spans_each_in_that_of_its_agent() -> None:
    found = spans(otlp_document(sample()))
    assert [span["name"] for span in found] == [
        *("invoke_agent r", "invoke_agent sub-agent"),
        *["chat model-0"] * 8,
        "execute_tool lookup",
    ]
    root, sub = found[:2]
    assert "parentSpanId" not in root
    assert sub["parentSpanId"] == root["spanId"]
    assert [span["parentSpanId"] == sub["spanId"] for span in found[2:10]] == [n in (2, 5) for n in range(8)]
    assert len({span["spanId"] for span in found}) == len(found)
    assert {span["kind"] for span in found[2:10]} == {3}
    assert root["startTimeUnixNano"] == "1000000000000"
    assert root["endTimeUnixNano"] == "1007500000000"


def test_a_call_has_the_names_of_the_conventions() -> None:
    call = attributes(otlp_document(sample())["resourceSpans"][0]["scopeSpans"][0]["spans"][3])
    assert call["gen_ai.operation.name"] == "chat"
    assert call["gen_ai.provider.name"] == "anthropic"
    assert call["gen_ai.request.model"] == "model-0"
    assert call["gen_ai.request.max_tokens"] == "1000"
    assert call["gen_ai.request.temperature"] == 0.5
    assert call["gen_ai.response.model"] == "model-1"
    assert call["gen_ai.usage.input_tokens"] == "100"
    assert call["gen_ai.usage.cache_read.input_tokens"] == "60"
    assert call["gen_ai.response.time_to_first_chunk"] == 0.25
    assert "gen_ai.input.messages" not in call, "what was said is left out unless it is asked for"


def test_a_call_that_failed_is_an_error() -> None:
    failed = spans(otlp_document(sample()))[5]
    assert failed["status"] == {"code": 2, "message": "ValueError: no"}
    assert failed["attributes"]["error.type"] == "ValueError"


def test_what_was_said_is_in_the_spans_where_it_is_asked_for() -> None:
    call = spans(otlp_document(sample(), content=True))[3]["attributes"]
    assert json.loads(call["gen_ai.system_instructions"])[0] == {"type": "text", "content": "Be brief."}
    (asked,) = json.loads(call["gen_ai.input.messages"])
    assert asked["role"] == "user"
    (answer,) = json.loads(call["gen_ai.output.messages"])
    assert answer["finish_reason"] == "tool_call"
    assert answer["parts"][2] == {
        "type": "tool_call",
        "id": "call_1",
        "name": "search",
        "arguments": '{"query":"file"}',
    }


def test_the_same_trace_has_the_same_spans_and_a_child_links_to_its_parent() -> None:
    assert otlp_document(sample()) == otlp_document(sample())
    parent = spans(otlp_document(sample()))
    (link,) = spans(otlp_document(child()))[0]["links"]
    assert link == {"traceId": parent[0]["traceId"], "spanId": parent[-1]["spanId"]}


def test_the_system_prompt_alone_is_no_conversation() -> None:
    one = turn(0, (SYSTEM,), Response.of("ok"))
    assert "gen_ai.input.messages" not in spans(otlp_document(trace_of(one), content=True))[1]["attributes"]


def test_a_rollout_of_a_fleets_store_is_a_sample_of_its_task() -> None:
    def of(number: int, rollout: str, fleet: dict[str, Any]) -> Trace:
        trace = Trace(rollout, run=f"run_{number}")
        writer = TraceWriter(trace)
        writer.open(Opening(rollout=rollout, run=f"run_{number}", at=1.0, metadata={"fleet": fleet}))
        writer.add(turn(0, (SYSTEM, TASK), Response.of("x"), rollout=rollout))
        writer.seal()
        return trace

    ids = (("a", 0), ("a", 1), ("b", 0), ("twice", 0), ("twice", 0))
    log = inspect_log(
        of(n, f"r_{n}", {"task": task, "sample": sample, "attempt": 1})
        for n, (task, sample) in enumerate(ids)
    )
    found = [(each["id"], each["epoch"], each["metadata"].get("rollout")) for each in log["samples"]]
    assert found == [("a", 1, "r_0"), ("a", 2, "r_1"), ("b", 1, "r_2"), ("r_3", 1, None), ("r_4", 1, None)]
    assert log["eval"]["dataset"]["sample_ids"] == ["a", "b", "r_3", "r_4"]
    assert log["eval"]["config"]["epochs"] == 2
