"""Generated conversations have the shape of the recorded calls."""

import json

import pytest

from bench import recording
from bench.load import Job, make_requests
from bench.recording import Call
from bench.shapes import conversation

pytestmark = pytest.mark.once

MARK = {"type": "ephemeral"}


def _recorded() -> list[Call]:
    """Two calls of Claude Code's shape: the second adds a tool call and its result of 9,000 characters."""
    text = {"type": "text", "text": "Read the files."}
    task = {"role": "user", "content": [text]}
    marked_task = {"role": "user", "content": [{**text, "cache_control": MARK}]}
    name = f"toolu_{'ab' * 12}"
    use = {"type": "tool_use", "id": name, "name": "Read", "input": {"path": "a.py"}}
    result = {"type": "tool_result", "tool_use_id": name, "content": "def wait_for_1(): ..." * 450}
    turn = [
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [{**result, "cache_control": MARK}]},
    ]
    bodies = [{"model": "m", "messages": said, "tools": []} for said in ([marked_task], [task, *turn])]
    return [Call("anthropic_messages", "main", json.dumps(body).encode()) for body in bodies]


def test_each_turn_repeats_the_earlier_ones_and_adds_a_call_with_its_result_of_4_kb() -> None:
    bodies = [json.loads(body) for body in conversation(_recorded(), 3)]

    assert [len(body["messages"]) for body in bodies] == [3, 5, 7]
    assert bodies[0]["messages"][:2] == bodies[2]["messages"][:2]
    calls = [
        message["content"][0]["id"] for message in bodies[2]["messages"] if message["role"] == "assistant"
    ]
    results = [message["content"][0] for message in bodies[2]["messages"][2::2]]
    assert len(set(calls)) == 3
    assert [result["tool_use_id"] for result in results] == calls
    assert len({result["content"] for result in results}) == 3
    assert all(3500 <= len(result["content"]) <= 4500 for result in results)


def test_only_the_last_message_has_the_cache_mark() -> None:
    for body in conversation(_recorded(), 3):
        marked = ["cache_control" in json.dumps(message) for message in json.loads(body)["messages"]]
        assert marked == [False] * (len(marked) - 1) + [True]


def test_waiting_requests_of_an_agent_have_files_that_no_other_rollout_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        recording, "recorded", lambda agent: [*_recorded(), Call("openai_chat", "side", b"{}")]
    )
    routes = [[f"/rollout/{name}/v1/chat/completions", "key"] for name in "abc"]

    requests = make_requests(Job(port=1, routes=routes, connections=6, body=0, agent="claude_code"))

    heads, bodies = zip(*(request.split(b"\r\n\r\n", 1) for request in requests), strict=True)
    assert [head.split()[1] for head in heads[:3]] == [
        b"/rollout/%b/v1/messages" % name for name in (b"a", b"b", b"c")
    ]
    assert all(b"x-bench: hold" in head for head in heads)
    lengths = [len(call.body) for call in _recorded()]
    assert [len(body) for body in bodies] == lengths * 3
    with_files = [body for body in bodies if len(body) == lengths[1]]
    assert len(set(with_files)) == 3
