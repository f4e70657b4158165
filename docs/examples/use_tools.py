import sys
from pathlib import Path

import trio
import triocept
from triocept import ToolCall

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def answer(exchange: triocept.Exchange) -> None:
    results = exchange.request.tool_results
    if not results:  # the first call: nothing has run yet
        command = "echo 6 times 7 is $((6 * 7))"
        await exchange.respond(ToolCall.of("bash", command=command))
    else:
        await exchange.respond(f"I ran it, and it said: {results[0].text.strip()}")


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "How much is 6 times 7?"])
    print(result.stdout_text.strip())
    print()
    for turn in rollout.trace:
        asked, said = len(turn.request.messages), turn.response.stopped
        print(f"turn {turn.number}: {asked} messages in, {said} out")


trio.run(main)
