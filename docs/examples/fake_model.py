import sys
from pathlib import Path

import trio
import triocept

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def answer(exchange: triocept.Exchange) -> None:
    print("the agent says:", exchange.request.user_text)
    await exchange.respond("Nice to meet you.")


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "Hello, model."])
    print("the agent printed:", result.stdout_text.strip())


trio.run(main)
