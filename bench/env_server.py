"""The env server of verifiers, a peer of our fleets: a broker, and workers that each run an environment's rollouts.

It is as its users have it: rollouts are recorded turn by turn, and their traces go to the driver as they grow.

    python -m bench.env_server agent 2000 --workers 2 --slots 8

A program of its own: what is spawned imports the driver's main module again, so that should bring nothing along.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .meter import Figures, Meter, children

_PLUGIN = "bench_fleet"
_TURNS = {"agent": 2, "stub": 4}
"""Of a rollout."""
_START = 200.0
"""Seconds. A worker that fails to start is nothing that its broker tells."""
_END = 30.0
"""Seconds."""


async def _measure(work: str, count: int, *, workers: int, slots: int) -> Figures:
    turns = _TURNS[work]
    async with _open_pool(work, workers, slots) as (client, broker):
        async with asyncio.timeout(_START):
            await _run(client, workers, workers, turns)  # the broker is up before its workers are
        meter = Meter(list(children(broker, b"spawn_main")), [broker])
        async with asyncio.timeout(_START + count):  # a rollout takes some milliseconds, unless it is lost
            await _run(client, count, workers * slots, turns)
        return meter.figures(count)


@asynccontextmanager
async def _open_pool(work: str, workers: int, slots: int) -> AsyncIterator[tuple[Any, int]]:
    from verifiers.v1.serve import EnvClient, serve_env

    sys.path.append(str(Path(__file__).with_name("plugins")))  # what is spawned gets it, too
    context = multiprocessing.get_context("spawn")
    addresses = context.Queue()
    death, theirs = context.Pipe()
    pool = context.Process(
        target=serve_env,
        kwargs={
            "max_workers": workers,
            "address": "tcp://127.0.0.1:0",
            "address_queue": addresses,
            "death_pipe": theirs,
            "multiplex": slots,
            "elastic": False,
            "config_data": {
                "taskset": {"id": _PLUGIN},
                "agent": {"harness": {"id": _PLUGIN, "work": work}, "runtime": {"type": "subprocess"}},
            },
        },
    )
    pool.start()
    try:
        client = EnvClient(await asyncio.to_thread(addresses.get, timeout=60))
        try:
            await client.wait_for_server_startup(interval=0.1)
            assert pool.pid is not None
            yield client, pool.pid
        finally:
            await client.close()
    finally:
        death.close()  # it ends, and its workers with it
        await asyncio.to_thread(pool.join, _END)
        if pool.is_alive():
            pool.kill()
            pool.join()


async def _run(client: Any, count: int, at_once: int, turns: int) -> None:
    from verifiers.v1.configs.client import EvalClientConfig
    from verifiers.v1.types import SamplingConfig

    model = EvalClientConfig(base_url="http://127.0.0.1:9", api_key_var="NONE")
    left = iter(range(count))

    async def slot() -> None:
        for number in left:
            episode = await client.run(
                model, "bench", SamplingConfig(), {"idx": number, "prompt": "What now?"}
            )
            assert not episode.errors, episode.errors
            (trace,) = episode.traces
            assert trace.ok, trace.last_error
            assert trace.num_turns == turns, trace

    async with asyncio.TaskGroup() as slots:
        for _ in range(at_once):
            slots.create_task(slot())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.env_server", description="What a rollout costs in verifiers' env server."
    )
    parser.add_argument("work", choices=_TURNS)
    parser.add_argument("count", type=int, help="rollouts")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8, help="rollouts at a time in each worker")
    given = parser.parse_args()
    figures = asyncio.run(_measure(given.work, given.count, workers=given.workers, slots=given.slots))
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
