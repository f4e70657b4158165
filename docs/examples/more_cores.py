import sys
from pathlib import Path

import trio
from triocept.fleets import Processes, open_fleet

TINY_AGENT = [sys.executable, str(Path(__file__).with_name("tiny_agent.py"))]


async def answer(exchange):
    await exchange.respond("hello")


async def fix(endpoint, number, *, attempt):
    """One rollout, in a worker: what it returns goes back to the program, and its trace too."""
    async with endpoint.open_rollout(answer) as rollout:
        result = await rollout.run_agent([*TINY_AGENT, f"fix bug {number}"])
    return result.returncode


async def main():
    ended = {}
    async with open_fleet(Processes(2, slots_per_worker=4)) as fleet:
        async with fleet.map(fix, range(8)) as results:
            async for result in results:
                ended[result.task] = (result.value, len(result.traces[0]))
    print(sorted(ended.items()))


if __name__ == "__main__":
    trio.run(main)
