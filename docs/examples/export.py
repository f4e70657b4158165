import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall
from triocept.exports import Losses, fine_tuning_lines, write_export

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def main() -> triocept.Trace:
    model = ScriptedModel([ToolCall.of("bash", command="echo 3"), "There are three."])
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model, id="demo") as rollout,
    ):
        await rollout.run_agent([*TINY_AGENT, "How many files are there?"])
    return rollout.trace


trace = trio.run(main)
losses = Losses()
for line in fine_tuning_lines(trace, losses):
    for message in line["messages"]:
        print(message["role"], message["content"].strip() or "calls a tool")
print(losses or "nothing was left out")

write_export([trace], "inspect", "log.json")  # inspect view start
write_export([trace], "har", "calls.har")
