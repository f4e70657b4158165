import sys
from pathlib import Path

import trio
import triocept
from triocept import ToolCall

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]
AGENT = sys.argv[1:] or [*TINY_AGENT, "Where are you?"]


async def main() -> None:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout() as rollout,  # no handler: the loop below is the model
        rollout.open_agent(AGENT) as agent,
    ):
        commands = ["uname -s", "pwd"]
        async for exchange in agent:  # ends when the agent does
            tools = [tool.name for tool in exchange.request.tools]
            shells = [name for name in tools if name.lower() == "bash"]
            if commands and shells:
                command = commands.pop(0)
                await exchange.respond(ToolCall.of(shells[0], command=command))
            else:
                await exchange.respond("Now I know.")
    print(agent.result.returncode, rollout.trace)


trio.run(main)
