import sys
from pathlib import Path

import trio
import triocept

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def think(exchange: triocept.Exchange) -> None:
    await trio.sleep_forever()


async def answer(exchange: triocept.Exchange) -> None:
    with trio.move_on_after(0.5):
        await think(exchange)
    if not exchange.settled:
        await exchange.refuse(503, "that took too long", should_retry=False)


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(answer) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "What is the answer?"])
    print(result.stderr_text.strip())


trio.run(main)
