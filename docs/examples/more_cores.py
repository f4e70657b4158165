from multiprocessing import get_context

import trio
import triocept

PROCESSES = 2
ROLLOUTS = 8


async def answer(exchange):
    await exchange.respond("hello")


async def run_share(numbers):
    """What one process does: an endpoint of its own, on a port of its own, and its share of the rollouts."""
    returncodes = {}

    async def run(endpoint, number):
        async with endpoint.open_rollout(answer) as rollout:
            result = await rollout.run_agent(["claude", "-p", f"fix bug {number}"])
            returncodes[number] = result.returncode

    async with triocept.serve_endpoint() as endpoint, trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(run, endpoint, number)
    return returncodes


def process(share):
    return trio.run(run_share, share)


if __name__ == "__main__":
    shares = [range(first, ROLLOUTS, PROCESSES) for first in range(PROCESSES)]
    with get_context("spawn").Pool(PROCESSES) as pool:
        ended = {
            number: code
            for part in pool.map(process, shares)
            for number, code in part.items()
        }
    print(sorted(ended.items()))
