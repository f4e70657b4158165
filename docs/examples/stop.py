import sys
from pathlib import Path

import trio
import triocept

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def answer(exchange: triocept.Exchange) -> None:
    if any("secret" in result.text for result in exchange.request.tool_results):
        await exchange.rollout.stop("it found the secret")  # settles this one as well
    else:
        await exchange.respond(triocept.ToolCall.of("bash", command="echo the secret"))


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "look around"])
    print(result.stderr_text.strip())
    print(rollout.trace)


trio.run(main)
