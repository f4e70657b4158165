import sys
from pathlib import Path

import trio
import triocept

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
LIMITS = triocept.Limits(
    turns=3,
    output_tokens=50_000,
    cost=2.0,
    seconds=600,
    prices={
        "claude-opus-*": triocept.Price(input=5, output=25, cached_input=0.5),
        "*": triocept.Price(input=1, output=4),
    },
)


async def never_done(exchange: triocept.Exchange) -> None:
    await exchange.respond(triocept.ToolCall.of("bash", command="echo and again"))


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(never_done, limits=LIMITS) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "go on for ever"])
    print(result.stderr_text.strip())
    print("stopped:", rollout.stopped)
    print(f"cost: {rollout.trace.cost:.5f}")
    print(rollout.trace)


trio.run(main)
