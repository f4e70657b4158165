import sys

import trio
import triocept


async def answer(exchange):  # one model call of the agent, live
    await exchange.respond("hello")  # or stream, refuse, hold, rewrite


async def main():
    async with triocept.serve_endpoint() as endpoint:  # accepting already
        async with endpoint.open_rollout(answer) as rollout:  # one run, one key
            result = await rollout.run_agent(sys.argv[1:])  # claude -p "fix the bug"
    print(result.returncode, rollout.trace)


trio.run(main)
