"""Claude Code, Codex and mini-swe-agent, unchanged, on llama.cpp: they complete a tool run, and once more when the
server is killed in the middle of it.
"""

from __future__ import annotations

from array import array
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.real_agents.play import Calls
from triocept import Turn
from triocept.traces import drift

from .agents import (
    AGENTS,
    STREAMING,
    Executables,
    Ran,
    check_done,
    check_done_at_last,
    run_agent,
    upstream_of,
)
from .forwarding import CHAT, MESSAGES, RESPONSES
from .sent import Sent
from .servers import LlamaCpp
from .test_llama_cpp import slots

PAIRS = [
    pytest.param("claude_code", CHAT, marks=pytest.mark.ci),
    pytest.param("claude_code", MESSAGES),
    pytest.param("claude_code", RESPONSES),
    pytest.param("codex", RESPONSES, marks=pytest.mark.ci),
    pytest.param("codex", CHAT),
    pytest.param("codex", MESSAGES),
    pytest.param("mini_swe_agent", CHAT, marks=pytest.mark.ci),
    pytest.param("mini_swe_agent", MESSAGES),
    pytest.param("mini_swe_agent, streaming", CHAT, marks=pytest.mark.ci),
    pytest.param("mini_swe_agent, streaming", RESPONSES),
]


@pytest.mark.parametrize(("agent", "provider"), PAIRS)
async def test_a_real_agent_completes_a_tool_run_on_llama_cpp(
    llama_cpp: str, agent: str, provider: str, tmp_path: Path, executable_of: Executables, sent: Sent
) -> None:
    async with upstream_of(llama_cpp, provider) as upstream:
        ran = await run_agent(agent, upstream, tmp_path, executable_of(agent))
    check_done(ran)
    assert {turn.request.stream for turn in ran.trace} == {agent in STREAMING}
    assert [document.get("stream", False) for _, document in sent.documents] == [agent in STREAMING] * 2


@pytest.mark.ci
async def test_the_tokens_of_a_streamed_turn_of_claude_code_are_those_of_a_direct_call(
    llama_cpp: str, tmp_path: Path, executable_of: Executables, sent: Sent
) -> None:
    """No gap; the prompt is what the server itself makes of the messages, the completion what it says to that."""
    async with upstream_of(llama_cpp, CHAT, tokens="llama_cpp") as upstream:
        probes = len(sent.documents)
        ran = await run_agent("claude_code", upstream, tmp_path, executable_of("claude_code"))
    check_done(ran)
    documents = [document for path, document in sent.documents[probes:] if path.endswith("/chat/completions")]
    assert len(documents) == len(ran.trace) == 2
    for turn, document in zip(ran.trace, documents, strict=True):
        assert turn.request.stream
        assert turn.request.tools
        assert turn.tokens.gaps == ()
        assert (turn.tokens.prompt_ids, turn.tokens.completion_ids) == await asked_directly(
            llama_cpp, document
        )
    report = drift(ran.trace)
    assert report.counts == {"new_root": 1, "template_drift": 1}, (
        "its messages are the same, the template's are not"
    )
    assert [pair.prompt_length - pair.prompt_kept for pair in report.alarms] == [1], "the start token"


async def asked_directly(url: str, document: dict[str, Any]) -> tuple[array[int], array[int]]:
    """The ids of a prompt and of its completion, by the calls of llama.cpp's own."""
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:

        async def post(path: str, **body: Any) -> Any:
            return (await client.post(path, json=body)).raise_for_status().json()

        rendered = await post("/apply-template", messages=document["messages"], tools=document["tools"])
        prompt = await post("/tokenize", content=rendered["prompt"], add_special=True, parse_special=True)
        said = await post("/completion", prompt=prompt["tokens"], n_predict=100, return_tokens=True)
    return array("i", prompt["tokens"]), array("i", said["tokens"])


QUICKEST = ("codex", "half", 6)
KILLED = [
    pytest.param(*each, marks=pytest.mark.ci if each == QUICKEST else pytest.mark.slow)
    for each in product(AGENTS, ("babble", "half"), (0, 6))
]


@pytest.mark.parametrize(("agent", "says", "retries"), KILLED)
async def test_a_real_agent_completes_its_run_though_the_server_is_killed_in_mid_stream(
    mortal: LlamaCpp,
    agent: str,
    says: str,
    retries: int,
    tmp_path: Path,
    executable_of: Executables,
    calls: Calls,
) -> None:
    """In the middle of a text, or of a tool call. Restarted, the model does what it is told."""
    ran = await killed(mortal, agent, says, tmp_path, executable_of(agent), retries=retries)
    check_done_at_last(ran)
    check_tries(ran, calls, retries)
    if agent in STREAMING:
        check_cut(ran.trace[0], says)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 6])
@pytest.mark.parametrize("agent", AGENTS)
async def test_the_tokens_of_a_run_are_whole_though_the_server_was_killed_in_it(
    mortal: LlamaCpp, agent: str, retries: int, tmp_path: Path, executable_of: Executables, calls: Calls
) -> None:
    executable = executable_of(agent)
    ran = await killed(mortal, agent, "babble", tmp_path, executable, retries=retries, tokens="llama_cpp")
    check_done_at_last(ran)
    check_tries(ran, calls, retries)
    assert [turn.tokens.gaps if turn.tokens else None for turn in ran.answered] == [()] * 2
    assert [turn.tokens for turn in ran.failed] == [None] * len(ran.failed)


async def killed(
    server: LlamaCpp, agent: str, says: str, folder: Path, executable: Path, **options: Any
) -> Ran:
    """Run an agent; the server is killed in its first call, and started again."""
    await trio.to_thread.run_sync(server.start, says)
    async with upstream_of(server.url, CHAT, **options) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(kill_in_mid_stream, server)
        return await run_agent(agent, upstream, folder, executable)


async def kill_in_mid_stream(server: LlamaCpp) -> None:
    """kill -9 when the model has said some words; restarted, it does not babble."""
    with trio.fail_after(60):
        while not any(has_said(slot) >= 20 for slot in await slots(server.url)):
            await trio.sleep(0.02)
    server.kill()
    await trio.to_thread.run_sync(server.start)


def has_said(slot: dict[str, Any]) -> int:
    """The tokens of the answer that it is at."""
    said: int = max((each["n_decoded"] for each in slot.get("next_token", [])), default=0)
    return said if slot["is_processing"] else 0


def check_tries(ran: Ran, calls: Calls, retries: int) -> None:
    """Each try of the agent is a turn, and no other is one: what failed first, then the two calls of its run."""
    assert calls.main == len(ran.trace)
    assert [turn.outcome for turn in ran.trace] == ["refused"] * len(ran.failed) + ["answered"] * 2
    for turn in ran.failed:
        assert turn.error.status in (502, 503)
    if not retries:
        assert ran.failed, "who does not try again by itself leaves that to the agent"


def check_cut(turn: Turn, says: str) -> None:
    """The try that was cut, with as much of it as had come."""
    assert turn.request.stream
    assert turn.error.type == "UpstreamTruncated"
    if says == "babble":
        assert turn.response.text != ""
    else:
        (call,) = turn.response.tool_calls
        assert "echo " in call.arguments
