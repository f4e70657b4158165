"""The provider that the cassettes of pytest-recording are recorded from: an endpoint of triocept, and one rollout.

A real one would do as well, but for the 429, which none gives when it is asked to.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from triocept import Exchange, Refusal, Response, ToolCall, serve_endpoint

from .environments import interpreter_of
from .running import Failed
from .tools import SUITES, TOOLS

TEXTS = {
    "When do you open?": "At nine.",
    "When do you close?": "At five.",
    "My lamp burns!": '{"team":"repairs","urgent":true}',
    "Good day": "Guten Tag",
}
PIECES = {"a lamp": ("Dear ", "customer")}
CALLS = {"What becomes of A-17?": "final_result", "Where is A-17?": "find_order"}


def record() -> None:
    """Record all cassettes anew; raise Failed if a test did not pass."""
    (tool,) = (tool for tool in TOOLS if tool.recorded)
    python = interpreter_of(tool, None)
    argv = [python, "-m", "pytest", "-q", "--record-mode=rewrite", tool.file]
    trio.run(_record, [str(each) for each in argv])


async def _record(argv: list[str]) -> None:
    with trio.fail_after(120):
        async with serve_endpoint(embed=_embed) as endpoint, endpoint.open_rollout(_answer) as rollout:
            result = await rollout.run_agent(argv, cwd=SUITES)
    if result.returncode:
        raise Failed(result.stdout_text)


async def _answer(exchange: Exchange) -> None:
    """What the tests want to hear."""
    (asked,) = (
        message.text for message in exchange.request.messages if message.role == "user" and message.text
    )
    if asked == "When do you close?" and exchange.attempt == 1:
        raise Refusal(429, "Slow down", retry_after=0.001)
    if asked in PIECES:
        async with exchange.open_stream() as stream:
            for piece in PIECES[asked]:
                await stream.send(piece)
    else:
        await exchange.respond(_reply(asked, looked=bool(exchange.request.tool_results)))


def _reply(asked: str, *, looked: bool) -> Response | str:
    if asked not in CALLS:
        return TEXTS[asked]
    if not looked:
        return Response(content=(ToolCall.of("find_order", number="A-17"),))
    if CALLS[asked] == "find_order":
        return "It broke."
    return Response(content=(ToolCall.of("final_result", refund=40, reason="broken"),))


def _embed(texts: Sequence[str]) -> list[list[float]]:
    return [[1.0, 0.0] if "money" in text else [0.0, 1.0] for text in texts]
