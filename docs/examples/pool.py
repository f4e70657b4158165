import trio
import triocept


async def answer(exchange: triocept.Exchange) -> None:
    await exchange.respond("hello")


async def main() -> None:
    everybody, opened = trio.Event(), 0

    async def run(pool: triocept.Pool) -> None:
        nonlocal opened
        async with pool.open_rollout(answer):  # and in it, rollout.run_agent(…)
            opened += 1
            if opened == 5:
                everybody.set()
            await everybody.wait()

    async with triocept.serve_pool(per_endpoint=2) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(run, pool)
            await everybody.wait()
            print("rollouts on each endpoint:", sorted(pool.loads, reverse=True))
    print("all are gone")


trio.run(main)
