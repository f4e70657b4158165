"""aimock's fixture files, served by aimock and by a script: the same requests get the same answers.

Its own examples, and a file of what is easily done otherwise: order, turns, sequences, results of tools, models by
date.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from triocept import Exchange, Rollout, ScriptedModel, serve_endpoint
from triocept.errors import DialectError, ScriptExhausted
from triocept.handlers import ScriptWarning, read_embeddings, read_script

from . import servers

SENT = 777
USAGE = {"prompt_tokens": SENT, "completion_tokens": 3}
LIMITED = {"message": "slow", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
CALLS = [{"name": "t", "arguments": {"a": 1}}]
RECORDED = {"ttftMs": 5, "interChunkDelaysMs": [1, 2], "totalDurationMs": 9}
TRICKY: list[dict[str, Any]] = [
    {"match": {"userMessage": "order"}, "response": {"content": "first"}},
    {"match": {"userMessage": "order matters"}, "response": {"content": "never"}},
    {"match": {"userMessage": "turn", "turnIndex": 0}, "response": {"content": "turn 0"}},
    {"match": {"userMessage": "turn"}, "response": {"content": "turn plain"}},
    {"match": {"userMessage": "turn", "turnIndex": 2}, "response": {"content": "turn 2"}},
    {"match": {"userMessage": "late", "turnIndex": 4}, "response": {"content": "late 4"}},
    {"match": {"userMessage": "late", "turnIndex": 3}, "response": {"content": "late 3"}},
    {"match": {"userMessage": "seq", "sequenceIndex": 1}, "response": {"content": "seq 1"}},
    {"match": {"userMessage": "seq", "sequenceIndex": 0}, "response": {"content": "seq 0"}},
    {"match": {"userMessage": "seq", "hasToolResult": True}, "response": {"content": "seq result"}},
    {"match": {"userMessage": "mixed"}, "response": {"content": "a \u00e9", "toolCalls": CALLS}},
    {"match": {"userMessage": "list"}, "response": {"content": {"a": [1, 2.5, None]}}},
    {"match": {"model": "gpt-4"}, "response": {"content": "gpt-4"}},
    {"match": {"systemMessage": ["one", "two"]}, "response": {"content": "both"}},
    {"match": {"systemMessage": "one"}, "response": {"content": "one"}},
    {"match": {"toolResultContains": "sunny"}, "response": {"content": "sun"}},
    {"match": {"toolCallId": "call_7"}, "response": {"content": "seven"}},
    {"match": {"responseFormat": "json_object"}, "response": {"content": "{}"}},
    {"match": {"userMessage": "limit", "sequenceIndex": 0},
     "response": {"error": LIMITED, "status": 429, "retryAfter": 2}},
    {"match": {"userMessage": "limit", "sequenceIndex": 1}, "response": {"content": "after"}},
    {"match": {"userMessage": "broken"}, "response": {"error": {"message": "no", "type": "server_error"}}},
    {"match": {"userMessage": "cut off"},
     "response": {"content": "so", "finishReason": "length", "usage": USAGE}},
    {"match": {"userMessage": "think"}, "response": {"content": "thought", "reasoning": "hm"}},
    {"match": {"userMessage": "slow"},
     "response": {"content": "one two three four five six"}, "chunkSize": 4, "latency": 5},
    {"match": {"userMessage": "recorded"},
     "response": {"content": "x" * 50}, "recordedTimings": RECORDED, "replaySpeed": 2},
]  # fmt: skip


def call(number: str = "call_1", name: str = "get_weather") -> dict[str, Any]:
    return {"role": "assistant", "calls": [(number, name)]}


def result(text: str, number: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "id": number, "text": text}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "text": text}


SAID = {"role": "assistant", "text": "said"}
ASKED: list[dict[str, Any]] = [
    {"messages": [user("order matters")]},
    {"messages": [user("turn")]},
    {"messages": [user("a"), SAID, user("turn")]},
    {"messages": [user("a"), SAID, user("b"), SAID, user("turn")]},
    {"messages": [user("a"), SAID, user("b"), SAID, user("c"), SAID, user("turn")]},
    {"messages": [user("late")]},
    {"messages": [user("seq")]},
    {"messages": [user("seq")]},
    {"messages": [user("seq")]},
    {"messages": [user("seq"), call(), result("x")]},
    {"messages": [user("seq"), call(), result("x"), SAID, user("seq")]},
    {"messages": [user("mixed")]},
    {"messages": [user("list")]},
    {"messages": [user("x")], "model": "gpt-4-0613"},
    {"messages": [user("x")], "model": "gpt-4o"},
    {"messages": [user("x")], "system": "one and two"},
    {"messages": [user("x")], "system": "one alone"},
    {"messages": [user("x"), call(), result("it is sunny")]},
    {"messages": [user("x"), call("call_7"), result("rain", "call_7")]},
    {"messages": [user("x"), call("call_7"), result("rain", "call_7"), SAID, user("y")]},
    {"messages": [user("x")], "response_format": {"type": "json_object"}},
    *[{"messages": [user("limit")]}] * 3,
    {"messages": [user("broken")]},
    {"messages": [user("cut off")]},
    {"messages": [user("think")]},
    {"messages": [user("slow")]},
    {"messages": [user("recorded")]},
    {"messages": [user("nothing is for this")]},
]


def asked_by(fixtures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Requests for which these fixtures are, one for each, and one that none is for."""
    found = []
    for each in fixtures:
        match = each["match"]
        messages = [user(match.get("userMessage", "go"))]
        if "toolCallId" in match:
            messages += [call(match["toolCallId"]), result("done", match["toolCallId"])]
        found.append({"messages": messages, "tools": [match["toolName"]] if "toolName" in match else []})
    return [*found, {"messages": [user("zzz")]}]


def chat(asked: dict[str, Any], stream: bool) -> tuple[str, dict[str, Any]]:
    messages: list[Any] = [{"role": "system", "content": asked["system"]}] if "system" in asked else []
    for each in asked["messages"]:
        if each["role"] == "tool":
            messages.append({"role": "tool", "tool_call_id": each["id"], "content": each["text"]})
        elif "calls" in each:
            calls = [
                {"id": number, "type": "function", "function": {"name": name, "arguments": "{}"}}
                for number, name in each["calls"]
            ]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        else:
            messages.append({"role": each["role"], "content": each["text"]})
    body: dict[str, Any] = {"model": asked.get("model", "m"), "messages": messages, "stream": stream}
    if asked.get("tools"):
        body["tools"] = [{"type": "function", "function": {"name": name}} for name in asked["tools"]]
    if "response_format" in asked:
        body["response_format"] = asked["response_format"]
    return "/v1/chat/completions", body


def anthropic(asked: dict[str, Any], stream: bool) -> tuple[str, dict[str, Any]]:
    messages: list[Any] = []
    for each in asked["messages"]:
        if each["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": each["id"], "content": each["text"]}
            messages.append({"role": "user", "content": [block]})
        elif "calls" in each:
            blocks = [
                {"type": "tool_use", "id": number, "name": name, "input": {}}
                for number, name in each["calls"]
            ]
            messages.append({"role": "assistant", "content": blocks})
        else:
            messages.append({"role": each["role"], "content": each["text"]})
    body: dict[str, Any] = {
        "model": asked.get("model", "m"),
        "max_tokens": 99,
        "messages": messages,
        "stream": stream,
    }
    if "system" in asked:
        body["system"] = asked["system"]
    if asked.get("tools"):
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in asked["tools"]]
    return "/v1/messages", body


def documents(answer: httpx2.Response) -> list[Any]:
    if "event-stream" not in answer.headers.get("content-type", ""):
        return [answer.json()]
    lines = [
        line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:")
    ]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def heard_chat(answer: httpx2.Response) -> Any:
    """What a client of chat completions makes of it."""
    found = documents(answer)
    if answer.status_code != 200:
        return failed(answer, found[0], "message", "type", "code")
    choices = [choice for document in found for choice in document.get("choices", ())]
    deltas = [choice.get("message") or choice["delta"] for choice in choices]
    calls: dict[int, list[str]] = {}
    for number, piece in [
        (piece.get("index", number), piece)
        for delta in deltas
        for number, piece in enumerate(delta.get("tool_calls") or ())
    ]:
        said = calls.setdefault(number, ["", ""])
        said[0] += piece["function"].get("name") or ""
        said[1] += piece["function"].get("arguments") or ""
    usage = [document["usage"] for document in found if document.get("usage")]
    return (
        "".join(delta.get("content") or "" for delta in deltas),
        "".join(delta.get("reasoning_content") or "" for delta in deltas),
        [(name, json.loads(arguments)) for name, arguments in calls.values()],
        next(choice["finish_reason"] for choice in choices if choice.get("finish_reason")),
        [
            (each["prompt_tokens"], each["completion_tokens"])
            for each in usage
            if each["prompt_tokens"] == SENT
        ],
    )


def heard_anthropic(answer: httpx2.Response) -> Any:
    """What a client of Anthropic's makes of it."""
    found = documents(answer)
    if answer.status_code != 200:
        return failed(answer, found[0], "message", "type")
    if len(found) == 1:
        blocks = found[0]["content"]
        said = [
            (
                block["type"],
                block.get("text") or block.get("thinking") or (block.get("name"), block.get("input")),
            )
            for block in blocks
        ]
        return said, found[0]["stop_reason"]
    said = []
    for event in found:
        if event["type"] == "content_block_start":
            block = event["content_block"]
            said.append([block["type"], block.get("name"), ""])
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            said[-1][2] += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
    stop = next(event["delta"]["stop_reason"] for event in found if event["type"] == "message_delta")
    return [
        (kind, (name, json.loads(text or "{}")) if kind == "tool_use" else text) for kind, name, text in said
    ], stop


def failed(answer: httpx2.Response, document: Any, *names: str) -> Any:
    error = document["error"]
    if answer.status_code == 404:
        return 404  # nothing matches: each says that in words of its own
    return answer.status_code, answer.headers.get("retry-after"), [error.get(name) for name in names]


WAYS: dict[str, tuple[Callable[..., tuple[str, Any]], Callable[..., Any]]] = {
    "chat": (chat, heard_chat),
    "anthropic": (anthropic, heard_anthropic),
}


async def play(
    base: str, headers: dict[str, str], way: str, stream: bool, asked: list[dict[str, Any]]
) -> list[Any]:
    """What a client hears to these requests, one after the other."""
    say, hear = WAYS[way]
    answers = []
    async with httpx2.AsyncClient(timeout=20) as http:
        for each in asked:
            path, body = say(each, stream)
            answers.append(hear(await http.post(base + path, json=body, headers=headers)))
    return answers


def asking_on(file: Path) -> Callable[[Exchange], Any]:
    """A script that refuses what it has no reply for, as aimock does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScriptWarning)
        model = ScriptedModel(read_script(file))

    async def answer(exchange: Exchange) -> None:
        try:
            await model(exchange)
        except ScriptExhausted as exc:
            await exchange.refuse(404, str(exc))

    return answer


async def compare(aimock: str, file: Path, asked: list[dict[str, Any]]) -> int:
    """See whether both say the same; how many answers were compared."""
    count = 0
    for way in WAYS:
        for stream in (False, True):
            name = f"{way}-{stream}"
            theirs = await play(aimock, {"x-test-id": name, "x-api-key": "k"}, way, stream, asked)
            with trio.fail_after(60), warnings.catch_warnings():
                warnings.simplefilter("ignore", ScriptWarning)  # a turnIndex that only chooses
                async with serve_endpoint() as endpoint, endpoint.open_rollout(asking_on(file)) as rollout:
                    ours = await play(address(rollout), key(rollout), way, stream, asked)
            for one, this, that in zip(asked, ours, theirs):
                assert this == that, (file.name, name, one)
            count += len(ours)
    return count


def address(rollout: Rollout) -> str:
    return rollout.base_url("openai_chat").removesuffix("/v1")


def key(rollout: Rollout) -> dict[str, str]:
    return {"authorization": f"Bearer {rollout.api_key}"}


def is_of_conversations(file: Path) -> bool:
    document = json.loads(file.read_text())
    return "fixtures" in document and all(
        not {"live", "embedding"} & each["response"].keys() for each in document["fixtures"]
    )


async def test_aimocks_own_examples_are_answered_as_aimock_does(upstreams_dir: Path) -> None:
    examples = servers.aimock_package(upstreams_dir) / servers.AIMOCK / "fixtures"
    files = sorted(filter(is_of_conversations, examples.rglob("*.json")))
    assert len(files) > 8
    for file in files:
        asked = asked_by(json.loads(file.read_text())["fixtures"])
        with servers.aimock(upstreams_dir, file) as url:
            print(f"{file.name}: {await compare(url, file, asked)} answers are the same")


async def test_what_is_easily_done_otherwise_is_done_as_aimock_does(upstreams_dir: Path) -> None:
    file = upstreams_dir / "tricky.json"
    file.write_text(json.dumps({"fixtures": TRICKY}))
    with servers.aimock(upstreams_dir, file) as url:
        print(f"tricky: {await compare(url, file, ASKED)} answers are the same")
        assert file.exists()


async def test_aimocks_embeddings_are_those_of_its_fixtures(upstreams_dir: Path) -> None:
    file = (
        servers.aimock_package(upstreams_dir)
        / servers.AIMOCK
        / "fixtures"
        / "examples"
        / "llamaindex"
        / "rag-pipeline.json"
    )
    asked = {"model": "m", "input": "What is gravity?"}
    with servers.aimock(upstreams_dir, file) as url:
        async with httpx2.AsyncClient() as http, serve_endpoint(embed=read_embeddings(file)) as endpoint:
            theirs = (await http.post(f"{url}/v1/embeddings", json=asked)).json()
            async with endpoint.open_rollout() as rollout:
                answer = await http.post(
                    f"{address(rollout)}/v1/embeddings", json=asked, headers=key(rollout)
                )
    assert [each["embedding"] for each in theirs["data"]] == [[0.9, 0.1, 0.05]]
    assert answer.json()["data"][0]["embedding"] == pytest.approx([0.9, 0.1, 0.05])


def test_every_example_of_aimocks_is_read_or_told_what_it_is(upstreams_dir: Path) -> None:
    examples = servers.aimock_package(upstreams_dir) / servers.AIMOCK / "fixtures"
    told = 0
    for file in examples.rglob("*.json"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScriptWarning)
            try:
                ScriptedModel(read_script(file))
            except DialectError as exc:
                told += 1
                assert "configuration of aimock" in str(exc) or "'live' belongs to an endpoint" in str(exc)
    assert told > 5
