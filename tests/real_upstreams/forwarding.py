"""A rollout that forwards to a real server, and an agent of any dialect that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from triocept import (
    Message,
    Request,
    Response,
    Rollout,
    Text,
    Tool,
    ToolResult,
    open_upstream,
    serve_endpoint,
)
from triocept.types import Event, PartDelta, assemble

CHAT, COMPLETIONS, RESPONSES = "openai_chat", "openai_completions", "openai_responses"
MESSAGES, GEMINI = "anthropic_messages", "gemini"
TALKING = (CHAT, RESPONSES, MESSAGES, GEMINI)
"""Those that have messages and tools."""
BOTH = pytest.mark.parametrize("stream", [False, pytest.param(True, marks=pytest.mark.ci)])
TOOLS = (
    Tool(
        name="ls",
        description="list",
        parameters={"type": "object", "properties": {"path": {"type": "string"}}},
    ),
)
CALLED = [{"path": "a \u00e9"}, {"path": "b"}]
"""What both aimock and the scripted model call `ls` with."""


def base_of(url: str, dialect: str) -> str:
    return url if dialect in (MESSAGES, GEMINI) else f"{url}/v1"


@asynccontextmanager
async def forwarding(
    url: str, dialect: str, *, seconds: float = 60, **options: Any
) -> AsyncIterator[Rollout]:
    with trio.fail_after(seconds):
        async with open_upstream(
            base_of(url, dialect), dialect=dialect, api_key="sk-test", **options
        ) as upstream:
            async with serve_endpoint() as endpoint, endpoint.open_rollout(upstream) as rollout:
                yield rollout


async def ask(rollout: Rollout, agent: str, *messages: Message | str, stream: bool, **more: Any) -> Response:
    """What an agent of this dialect reads."""
    request = requested(agent, *messages, stream=stream, **more)
    async with open_upstream(rollout.base_url(agent), dialect=agent, api_key=rollout.api_key) as ear:
        if not stream:
            return await ear.fetch(request)
        async with ear.open_response(request) as events:
            return assemble([event async for event in events])


@asynccontextmanager
async def listening(
    rollout: Rollout, agent: str, *messages: Message | str
) -> AsyncIterator[AsyncIterator[Event]]:
    """What an agent of this dialect reads, event by event; it hangs up at the end of the block."""
    async with open_upstream(rollout.base_url(agent), dialect=agent, api_key=rollout.api_key) as ear:
        async with ear.open_response(requested(agent, *messages, stream=True)) as events:
            yield events


def requested(agent: str, *messages: Message | str, stream: bool, **more: Any) -> Request:
    said = tuple(Message("user", (Text(each),)) if isinstance(each, str) else each for each in messages)
    return Request(dialect=agent, model="any-model", messages=said, stream=stream, **more)


def answered(agent: str, told: Response) -> tuple[Message, ...]:
    """The history of an agent that was told to look, has looked, and asks again."""
    results = tuple(ToolResult(id=call.id, content=(Text("x"),), name="ls") for call in told.tool_calls)
    return (
        Message("user", (Text("look"),)),
        Message("assistant", told.content),
        Message("user" if agent == MESSAGES else "tool", results),
    )


async def first_pieces(events: AsyncIterator[Event], count: int) -> AsyncIterator[Event]:
    """The first pieces of an answer, so many."""
    async for event in events:
        if isinstance(event, PartDelta):
            yield event
            count -= 1
        if not count:
            return
