"""llama.cpp's own server, recorded once, and answered from the file to agents of every dialect."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from triocept import Handler, Response, open_upstream, serve_endpoint
from triocept.errors import ContextLengthError
from triocept.testing import open_cassette

from .checks import SAID
from .forwarding import BOTH, CALLED, CHAT, MESSAGES, RESPONSES, TALKING, TOOLS, answered, ask, base_of

CONTEXT = 65_536
"""Tokens that a slot has room for."""


async def run(handler: Handler, agent: str, *, stream: bool) -> list[Response]:
    """An agent that asks, runs its tools, and asks too much."""
    with trio.fail_after(60):
        async with serve_endpoint() as endpoint, endpoint.open_rollout(handler) as rollout:
            first = await ask(rollout, agent, "script", stream=stream)
            called = await ask(rollout, agent, "look", stream=stream, tools=TOOLS)
            looked = await ask(rollout, agent, *answered(agent, called), stream=stream, tools=TOOLS)
            with pytest.raises(ContextLengthError):
                await ask(rollout, agent, "7 " * CONTEXT, stream=stream)
    return [first, called, looked]


@pytest.mark.parametrize("provider", [CHAT, RESPONSES, MESSAGES])
@BOTH
async def test_what_llama_cpp_has_said_once_every_agent_is_told(
    llama_cpp: str, provider: str, stream: bool, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    files = []
    for _ in range(2):
        async with open_upstream(
            base_of(llama_cpp, provider), dialect=provider, api_key="sk-test", model="scripted"
        ) as upstream:
            async with open_cassette(path, record="rewrite", upstream=upstream) as cassette:
                before = await run(cassette, provider, stream=stream)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    for agent in TALKING:
        async with open_cassette(path) as cassette:
            now = await run(cassette, agent, stream=not stream)
            assert cassette.unused == ()
        assert [each.text for each in now] == [each.text for each in before]
        assert now[0].text == SAID
        assert [call.parsed() for call in now[1].tool_calls] == CALLED
        assert [each.stopped for each in now] == ["end", "tool_use", "end"]
        assert [_counts(each) for each in now] == [_counts(each) for each in before]


def _counts(response: Response) -> tuple[int, int]:
    return response.usage.input_tokens, response.usage.output_tokens
