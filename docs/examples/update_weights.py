import sys
from functools import partial
from pathlib import Path

import trio
import triocept
from tiny_engine import serve_engine  # stands for a server

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
QUESTION = "What is 6 * 7?"


async def main() -> None:
    async with (
        serve_engine() as url,
        triocept.open_upstream(url, dialect="openai_chat", model="tiny") as upstream,
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(upstream) as rollout,
    ):
        upstream.policy_version = "step-7"
        await rollout.run_agent([*TINY_AGENT, QUESTION])
        async with trio.open_nursery() as nursery:
            async with upstream.paused() as pause:
                print(pause)
                nursery.start_soon(partial(rollout.run_agent, [*TINY_AGENT, QUESTION]))
                await trio.sleep(1)  # the weights change, and the agent waits
                upstream.policy_version = "step-8"
    for turn in rollout.trace:
        print(turn.outcome, turn.policy_start, turn.policy_end)


trio.run(main)
