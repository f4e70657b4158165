import sys
from pathlib import Path

import trio
import triocept

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


class PrintRecorder:
    """Prints a line a turn. Any class with these three methods is a recorder."""

    async def record(self, turn: triocept.Turn) -> None:
        print(f"{turn.rollout} {turn.number}: {turn.outcome}")

    async def seal(self, trace: triocept.Trace) -> None:
        print(f"{trace.rollout}: {len(trace)} turns, no more will come")

    async def aclose(self) -> None:
        print("the endpoint has stopped")


async def main() -> None:
    model = triocept.ScriptedModel(["Good morning."])
    async with (
        triocept.serve_endpoint(recorder=PrintRecorder()) as endpoint,
        endpoint.open_rollout(model, id="morning") as rollout,
    ):
        await rollout.run_agent([*TINY_AGENT, "Good morning!"])


trio.run(main)
