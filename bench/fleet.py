"""What a rollout costs in a fleet, beside Ray without triocept and verifiers' env server: `nox -s bench -- fleet`, or
`python -m bench.fleet`.

Each row is a program of its own. Three kinds of work: an empty call; a stub, which is a rollout of four model calls by
a client in the worker's own loop; and an agent, a rollout of two calls by a small process (`python -S`). Ray's actors
do the same without triocept: they start the same process, and give it an answer that never changes. The env server
records what is called, as we do, and sends each trace to the driver.

Figures are milliseconds for each rollout: of the clock; of the processor for the driver, for its workers (without their
agents), and for what is between them: Ray's own processes, or the env server's broker. Where the driver is the worker,
too, all is the driver's. Memory is the resident set of the largest worker at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import trio
from rich.console import Console
from rich.table import Table

import triocept
from triocept.fleets import Engine, InProcess, Processes, RayEngine, open_fleet

from .agents import COMMAND
from .bodies import make_body
from .meter import Figures, Meter, children
from .wire import ResponseReader, make_request

__all__ = ["Figures", "main"]

WORKERS = 2
SLOTS = 8
CALLS = 4
"""Of a stub."""
RESULTS = Path(__file__).with_name("fleet.json")
ANSWER = b'{"choices": [{"message": {"role": "assistant", "content": "Read the file."}}]}'
FIXED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)
"""What a peer answers."""


async def answer(exchange: triocept.Exchange) -> None:
    await exchange.respond("Read the file.")


async def nothing(worker: object, task: int, *, attempt: int) -> int:
    """An empty call."""
    await trio.lowlevel.checkpoint()
    return task


async def stub(worker: triocept.Endpoint, task: int, *, attempt: int) -> None:
    """A rollout without an agent's process."""
    body = make_body(4096)
    async with worker.open_rollout(answer) as rollout:
        path = rollout.base_url("openai_chat").partition(f":{worker.port}")[2] + "/chat/completions"
        request = make_request(path, rollout.api_key, body)
        async with await trio.open_tcp_stream("127.0.0.1", worker.port) as stream:
            reader = ResponseReader()
            for _ in range(CALLS):
                await stream.send_all(request)
                while not reader.feed(await stream.receive_some(65536)):
                    pass


async def agent(worker: triocept.Endpoint, task: int, *, attempt: int) -> None:
    """A rollout of an agent's process."""
    async with worker.open_rollout(answer) as rollout:
        result = await rollout.run_agent(COMMAND)
    assert result.check().stdout_text == "done\n"


async def on(engine: Engine, function: Any, count: int) -> Figures:
    """A fleet's."""
    async with open_fleet(engine) as fleet:
        named = [re.search(r"pid (\d+)", name) for name in fleet.workers]
        workers = [int(found[1]) for found in named if found] or [os.getpid()]
        meter = Meter(workers, _processes_of_ray())
        async with fleet.map(function, range(count)) as results:
            async for result in results:
                result.value  # noqa: B018 - raises what failed
        return meter.figures(count)


def fleet_on(make: Callable[[], Engine], function: Any) -> Callable[[int], Figures]:
    return lambda count: trio.run(partial(on, make(), function, count))


def on_ray() -> RayEngine:
    return RayEngine("local", workers=WORKERS, slots_per_worker=SLOTS, num_cpus=0.5)


def _processes_of_ray() -> Iterator[int]:
    """Raylet and its like: those that this program has started."""
    return children(os.getpid(), b"/ray/")


@asynccontextmanager
async def fixed_answers() -> AsyncIterator[dict[str, str]]:
    """A server of trio's that knows one answer; the environment that leads there."""

    async def serve(stream: trio.SocketStream) -> None:
        while await stream.receive_some(65536):
            await stream.send_all(FIXED)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield _environment(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


def _environment(port: int) -> dict[str, str]:
    return {**os.environ, "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "none"}


def agents_alone(count: int) -> Figures:
    """The agents, started by trio, and nothing else: what they cost themselves."""

    async def run() -> Figures:
        left = iter(range(count))

        async def slot() -> None:
            for _ in left:
                done = await trio.run_process(COMMAND, env=environment, capture_stdout=True)
                assert done.stdout == b"done\n"

        async with fixed_answers() as environment, trio.open_nursery() as nursery:
            meter = Meter([os.getpid()])
            async with trio.open_nursery() as slots:
                for _ in range(WORKERS * SLOTS):
                    slots.start_soon(slot)
            nursery.cancel_scope.cancel()
        return meter.figures(count)

    return trio.run(run)


def bare_ray(method: str) -> Callable[[int], Figures]:
    """An actor's call for each rollout, without triocept."""

    def run(count: int) -> Figures:
        import ray

        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        actor = ray.remote(Bare).options(num_cpus=0.5, max_concurrency=SLOTS)
        actors = [actor.remote() for _ in range(WORKERS)]
        meter = Meter(ray.get([each.pid.remote() for each in actors]), _processes_of_ray())
        asyncio.run(_drive([getattr(each, method).remote for each in actors], count))
        figures = meter.figures(count)
        ray.shutdown()
        return figures

    return run


async def _drive(calls: list[Callable[[], Awaitable[object]]], count: int) -> None:
    left = iter(range(count))

    async def slot(call: Callable[[], Awaitable[object]]) -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(slot(call) for call in calls for _ in range(SLOTS)))


def env_server(work: str) -> Callable[[int], Figures]:
    """What verifiers' env server takes: a program of its own."""

    def run(count: int) -> Figures:
        command = [sys.executable, "-m", "bench.env_server", work, str(count)]
        shape = ["--workers", str(WORKERS), "--slots", str(SLOTS)]
        done = subprocess.run([*command, *shape], stdout=subprocess.PIPE, check=True)
        return Figures(**json.loads(done.stdout))

    return run


class Bare:
    """An actor that starts agents, and answers them."""

    def __init__(self) -> None:
        self._environment: dict[str, str] = {}

    async def pid(self) -> int:
        """Begin to answer; its number."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._environment = _environment(server.sockets[0].getsockname()[1])
        return os.getpid()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(FIXED)
        writer.close()

    async def nothing(self) -> int:
        """An empty call."""
        return 0

    async def agent(self) -> None:
        """The agent's process."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND, env=self._environment, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out == b"done\n"


PROCESSES = partial(Processes, WORKERS, slots_per_worker=SLOTS)
ROWS: dict[str, tuple[Callable[[int], Figures], int]] = {
    "empty call: InProcess": (fleet_on(lambda: InProcess(64), nothing), 10_000),
    "empty call: Processes(2)": (fleet_on(PROCESSES, nothing), 10_000),
    "empty call: RayEngine, 2 workers": (fleet_on(on_ray, nothing), 10_000),
    "empty call: Ray bare": (bare_ray("nothing"), 10_000),
    "stub: InProcess": (fleet_on(lambda: InProcess(64), stub), 10_000),
    "stub: Processes(1)": (fleet_on(partial(Processes, 1, slots_per_worker=SLOTS), stub), 10_000),
    "stub: Processes(2)": (fleet_on(PROCESSES, stub), 10_000),
    "stub: RayEngine, 2 workers": (fleet_on(on_ray, stub), 10_000),
    "stub: verifiers' env server, 2 workers": (env_server("stub"), 10_000),
    "agent: alone": (agents_alone, 2_000),
    "agent: Ray bare": (bare_ray("agent"), 2_000),
    "agent: Processes(2)": (fleet_on(PROCESSES, agent), 2_000),
    "agent: RayEngine, 2 workers": (fleet_on(on_ray, agent), 2_000),
    "agent: verifiers' env server, 2 workers": (env_server("agent"), 2_000),
}
"""What is measured, and over how many rollouts."""


def left_out(name: str) -> bool:
    """Whether a row is of a peer that is not installed."""
    return "verifiers" in name and find_spec("verifiers") is None


def measure(name: str, share: float) -> dict[str, float] | None:
    """The figures of a row, by a program of its own. None: it failed, and has said why."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.fleet", "--row", name, "--share", str(share)],
        stdout=subprocess.PIPE,
        check=False,
    )
    figures: dict[str, float] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return figures


def show(found: dict[str, dict[str, float]], console: Console) -> None:
    """Print the table."""
    table = Table("", "rollouts", "ms each", "CPU: driver", "CPU: workers", "CPU: engine", "MiB a worker")
    for name, row in found.items():
        times = [f"{row[part]:.2f}" for part in ("wall", "driver", "workers", "engine")]
        table.add_row(name, f"{row['rollouts']:,}", *times, f"{row['memory']:.0f}")
    console.print(table)


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description="What a rollout costs in a fleet."
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their names")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the rollouts: 0.1 is quick (default: %(default)s)"
    )
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        run, count = ROWS[arguments.row]
        print(json.dumps(asdict(run(max(1, int(count * arguments.share))))))
        return
    console = Console() if sys.stdout.isatty() else Console(width=130)
    found = {}
    for name in ROWS:
        if arguments.only not in name:
            continue
        if left_out(name):
            console.print(f"left out, for it is not installed: {name}")
        else:
            console.print(f"[dim]{name}[/dim]")
            if (figures := measure(name, arguments.share)) is not None:
                found[name] = figures
    show(found, console)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
