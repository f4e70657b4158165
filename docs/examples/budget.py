import sys
from pathlib import Path

import trio
import triocept

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


def limited(handler: triocept.Handler, *, calls: int, tokens: int) -> triocept.Handler:
    """The same handler within a budget; what it spends is read from the trace."""

    async def within_budget(exchange: triocept.Exchange) -> None:
        turns = exchange.rollout.trace.turns
        usages = [turn.response.usage for turn in turns if turn.response is not None]
        spent = sum(usage.output_tokens for usage in usages if usage is not None)
        if len(turns) >= calls or spent >= tokens:
            spending = f"{len(turns)} calls, {spent} tokens"
            raise triocept.LimitReached(f"the budget is spent: {spending}")
        await handler(exchange)

    return within_budget


async def never_done(exchange: triocept.Exchange) -> None:
    await exchange.respond(triocept.ToolCall.of("bash", command="echo and again"))


async def main() -> None:
    handler = limited(never_done, calls=3, tokens=10_000)
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(handler) as rollout,
    ):
        with trio.move_on_after(60):  # a budget of time: cancelled, the agent ends
            result = await rollout.run_agent([*TINY_AGENT, "go on for ever"])
            print(result.stderr_text.strip())
    print(rollout.trace)


trio.run(main)
