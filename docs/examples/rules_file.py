import sys
from pathlib import Path

import trio
import triocept
from triocept.handlers import read_script

HERE = Path(__file__).parent
TINY_AGENT = [sys.executable, str(HERE / "tiny_agent.py")]


async def main() -> None:
    model = triocept.ScriptedModel(read_script(HERE / "rules.yaml"))
    async with (
        triocept.serve_endpoint() as endpoint,
        endpoint.open_rollout(model) as rollout,
    ):
        for task in ("count", "dance"):
            result = await rollout.run_agent([*TINY_AGENT, task])
            print(f"{task}: {result.stdout_text.strip()}")
    for what in model.unused:
        print(what.replace(str(HERE), "…"))


trio.run(main)
