import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall
from triocept.handlers import Replay

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def run(handler: triocept.Handler) -> triocept.Trace:
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(handler) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "How many files are there?"])
    print(result.stdout_text.strip())
    return rollout.trace


async def main() -> None:
    model = ScriptedModel([ToolCall.of("bash", command="ls | wc -l"), "Many."])
    trace = await run(model)

    other = ScriptedModel([ToolCall.of("bash", command="ls -a | wc -l"), "Even more."])
    forked = await run(Replay(trace, until=1, then=other))
    for turn in forked:
        print(turn.number, "forked" if "fork" in turn.notes["replay"] else "replayed")


trio.run(main)
