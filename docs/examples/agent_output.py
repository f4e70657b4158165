import sys
from pathlib import Path

import trio
import triocept

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def main() -> None:
    model = triocept.ScriptedModel(["A line for everybody."])
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        result = await rollout.run_agent(
            [*TINY_AGENT, "Say something."], output="echo", stdout_file="agent.log"
        )
    print("kept:", result.stdout_text.strip())
    print("in the file:", (await trio.Path("agent.log").read_text()).strip())


trio.run(main)
