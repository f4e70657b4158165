import sys
from pathlib import Path

import trio
import triocept
from triocept.handlers import Stream

AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


def watch(event: triocept.traces.RolloutEvent) -> None:
    print(type(event).__name__, getattr(event, "text", "-"))


async def main() -> None:
    model = triocept.ScriptedModel([Stream("It", " works.")])
    async with triocept.serve_endpoint(on_event=watch) as endpoint:
        async with endpoint.open_rollout(model) as rollout:
            await rollout.run_agent([*AGENT, "clean up"])


trio.run(main)
