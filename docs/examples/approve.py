import sys
from pathlib import Path

import trio
import triocept
from triocept import ScriptedModel, ToolCall
from triocept.handlers import Decision, approve

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def decide(call, exchange):  # or ask a person: triocept.handlers.ask_terminal
    if call.parsed()["command"].startswith(("ls", "cat", "echo")):
        return Decision.approve()
    return Decision.reject("only ls, cat and echo are allowed")


async def main():
    model = ScriptedModel(  # or an upstream: a real model
        [
            ToolCall.of("bash", command="echo safe"),
            ToolCall.of("bash", command="rm -rf /"),
            "I could not clean up.",
        ]
    )
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(approve(model, {"bash": decide})) as rollout,
    ):
        result = await rollout.run_agent([*TINY_AGENT, "clean up"])
        print(result.stdout_text.strip())
        for turn in rollout.trace:
            for decided in turn.decisions:
                print(decided.kind, decided.tool, decided.reason, "by", decided.by)


trio.run(main)
