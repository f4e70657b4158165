import sys

import trio
import triocept
from triocept.handlers import Stream


def watch(event: triocept.traces.RolloutEvent) -> None:
    print(type(event).__name__, getattr(event, "text", "-"))


async def main() -> None:
    model = triocept.ScriptedModel([Stream("It", " works.")])
    async with triocept.serve_endpoint(on_event=watch) as endpoint:
        async with endpoint.open_rollout(model) as rollout:
            await rollout.run_agent([sys.executable, "tiny_agent.py", "clean up"])


trio.run(main)
