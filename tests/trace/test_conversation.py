"""Whose call it is: as agents say it in their headers, else by the messages."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import trio

from tests.asking import ask_body, bearer, url_of
from triocept import Conversation, Exchange, serve_endpoint

TOOLS = [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}]

SAID: dict[str, tuple[dict[str, str], dict[str, Any], Conversation]] = {
    "claude code": ({"x-claude-code-session-id": "s"}, {"tools": TOOLS}, Conversation(id="s")),
    "a sub-agent of claude code": (
        {"x-claude-code-session-id": "s", "x-claude-code-agent-id": "a"},
        {"tools": TOOLS},
        Conversation(id="s/a", parent="s", kind="sub_agent"),
    ),
    "a title of opencode": ({"x-session-id": "s"}, {}, Conversation(id="s", kind="side")),
    "a sub-agent of opencode": (
        {"x-session-id": "s", "x-parent-session-id": "p"},
        {"tools": TOOLS},
        Conversation(id="s", parent="p", kind="sub_agent"),
    ),
    "codex": ({"thread-id": "t", "session-id": "s"}, {"tools": TOOLS}, Conversation(id="t")),
    "a warm-up of codex": (
        {"thread-id": "t"},
        {"tools": TOOLS, "generate": False},
        Conversation(id="t", kind="side"),
    ),
}


@pytest.mark.parametrize(("headers", "more", "expected"), SAID.values(), ids=SAID.keys())
async def test_an_agent_says_whose_call_it_is(
    headers: dict[str, str], more: dict[str, Any], expected: Conversation
) -> None:
    seen: list[Conversation] = []

    async def look(exchange: Exchange) -> None:
        seen.append(exchange.conversation)
        await exchange.respond("ok")

    with trio.fail_after(10):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(look) as rollout:
            async with httpx2.AsyncClient(headers=bearer(rollout) | headers) as client:
                await client.post(url_of(rollout), json=ask_body("hi", **more))
    assert seen == [expected]
    assert rollout.trace[0].conversation == expected
    assert rollout.trace.conversations == {rollout.trace[0].id: expected}


async def test_who_says_nothing_is_told_apart_by_the_messages() -> None:
    kinds: list[str] = []

    async def look(exchange: Exchange) -> None:
        kinds.append(exchange.conversation.kind)
        await exchange.respond("ok")

    def said(*texts: str) -> list[dict[str, str]]:
        return [
            {"role": "assistant" if place % 2 else "user", "content": text}
            for place, text in enumerate(texts)
        ]

    bodies = [
        {"messages": said("task"), "tools": TOOLS},
        {"messages": said("title of task?")},
        {"messages": said("task", "ok", "go on"), "tools": TOOLS},
        {"messages": said("a task of its own"), "tools": TOOLS},
        {"messages": said("a task of its own", "ok", "more"), "tools": TOOLS},
    ]
    with trio.fail_after(10):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(look) as rollout:
            async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
                for body in bodies:
                    await client.post(url_of(rollout), json={"model": "m", **body})
    assert kinds == ["main", "side", "main", "sub_agent", "sub_agent"]
    of = [rollout.trace.conversations[turn.id] for turn in rollout.trace]
    assert [conversation.kind for conversation in of] == kinds
    assert of[2] == of[0]
    assert of[4] == of[3] != of[0]


async def test_what_is_said_again_after_a_refusal_is_the_same_conversation() -> None:
    kinds: list[str] = []

    async def refuse_once(exchange: Exchange) -> None:
        kinds.append(exchange.conversation.kind)
        if len(kinds) == 1:
            await exchange.refuse(429, "not yet", retry_after=0)
        else:
            await exchange.respond("ok")

    task = {"model": "m", "messages": [{"role": "user", "content": "task"}], "tools": TOOLS}
    with trio.fail_after(10):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(refuse_once) as rollout:
            async with httpx2.AsyncClient(headers=bearer(rollout)) as client:
                for _ in range(3):
                    await client.post(url_of(rollout), json=task)
    assert kinds == ["main", "main", "sub_agent"], "the third says again what was answered: it begins anew"
    refused, again, anew = (rollout.trace.conversations[turn.id] for turn in rollout.trace)
    assert refused == again != anew
