"""What is done to a server, and the figures that it yields.

Each scenario is one function `(server, effort) -> {figure: value}`, run once per server in every round. Figures have
names like `req/s c=32 4KB`; `targets.py` says in which direction each is good.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeAlias

from .bodies import CHAT
from .dialects import NAMES
from .growth import growth
from .load import Job, Yield
from .powers import powers as powers_cost
from .processes import LoadFailed, ServerProcess, open_load, open_server_process
from .servers._shape import CHUNKS
from .viewers import viewers as viewers_cost

KIB = 1024
ROLLOUTS = 32
"""How many rollouts share an endpoint; connections are dealt out among them."""

Figures: TypeAlias = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is done: all that `--quick` changes."""

    rounds: int
    long_rounds: int
    """Of what takes long: in the others it is left out."""
    long_servers: frozenset[str] | None
    """Who takes part in what takes long; None: all."""
    limit: float
    """Seconds after which nothing more begins, if only the first round is whole."""
    seconds: float
    """Of each load."""
    warmup: float
    held: int
    """Requests for the memory of one."""
    times: int
    """How often an endpoint goes up and down."""


@dataclass(frozen=True)
class Scenario:
    """Something that is done to every server that is able to take it."""

    name: str
    ability: str
    """What a server must be able to do (see `servers/_shape.py`)."""
    run: Callable[[ServerProcess, Effort], Figures]
    fresh: bool = False
    """Whether each round wants a new process."""
    long: bool = False
    """Whether it takes long."""


def answer(server: ServerProcess, effort: Effort, *, connections: int, body: int) -> Figures:
    """Requests with an immediate answer, as fast as so many connections can."""
    seen, cpu = _load(server, effort, connections=connections, body=body * KIB)
    latencies = sorted(seen.latencies)
    which = f"c={connections} {body}KB"
    return {
        f"req/s {which}": seen.responses / seen.seconds,
        f"p50 ms {which}": 1000 * latencies[len(latencies) // 2],
        f"p99 ms {which}": 1000 * latencies[int(len(latencies) * 0.99)],
        f"cpu us {which}": 1e6 * cpu / seen.total,
        f"calls/CPU s {which}": seen.total / cpu,
    }


def stream(server: ServerProcess, effort: Effort, *, connections: int) -> Figures:
    """Streams of 100 chunks each, as fast as so many connections can."""
    seen, cpu = _load(server, effort, connections=connections, body=4 * KIB, stream=True)
    return {
        "chunks/s": seen.events / seen.seconds,
        "cpu us per chunk": 1e6 * cpu / seen.total_events,
        "chunks/CPU s": seen.total_events / cpu,
    }


def dialects(server: ServerProcess, effort: Effort) -> Figures:
    """Whole and streamed answers in each dialect.

    A server that takes chat completions only is measured in them, and its figures stand for each dialect.
    """
    taken = NAMES if "dialects" in server.abilities else (CHAT,)
    found = {dialect: _in_dialect(server, effort, dialect) for dialect in taken}
    return {
        f"{unit} {dialect}": value
        for dialect in NAMES
        for unit, value in found.get(dialect, found[CHAT]).items()
    }


def _in_dialect(server: ServerProcess, effort: Effort, dialect: str) -> Figures:
    whole, cpu = _load(server, effort, connections=32, body=4 * KIB, dialect=dialect)
    streams, streams_cpu = _load(server, effort, connections=20, body=4 * KIB, dialect=dialect, stream=True)
    events_per_stream = (
        streams.total_events / streams.total
    )  # a dialect may have more of them than increments
    return {
        "req/s": whole.responses / whole.seconds,
        "calls/CPU s": whole.total / cpu,
        "chunks/s": CHUNKS * streams.events / events_per_stream / streams.seconds,
        "chunks/CPU s": CHUNKS * streams.total_events / events_per_stream / streams_cpu,
    }


def memory(server: ServerProcess, effort: Effort, *, body: int) -> Figures:
    """How much the server grows by each request that waits, each of a rollout of its own."""
    answer(server, replace(effort, seconds=0.5), connections=8, body=body)
    held = hold(server, rollouts=effort.held, waiting=effort.held, body=body * KIB)
    return {"KiB per waiting request": held.grown / effort.held / KIB}


def release(server: ServerProcess, effort: Effort, *, waiting: int) -> Figures:
    """How long the last of so many waiting requests waits for its answer, once all are given it."""
    held = hold(server, rollouts=ROLLOUTS, waiting=waiting, body=4 * KIB)
    return {"release ms": 1000 * held.release, "release CPU ms": 1000 * held.cpu}


def crowd(server: ServerProcess, effort: Effort, *, rollouts: int, waiting: int) -> Figures:
    """Very many waiting requests of very many rollouts: what they take, and whether each gets its answer."""
    held = hold(server, rollouts=rollouts, waiting=waiting, body=4 * KIB)
    return {
        "crowd MiB": held.grown / KIB / KIB,
        "crowd release s": held.release,
        "crowd lost": waiting - held.answered,
    }


def growing(server: ServerProcess, effort: Effort) -> Figures:
    """What a turn costs early and late in a conversation; no server has a part in it."""
    return growth(effort.rounds)


def powers(server: ServerProcess, effort: Effort) -> Figures:
    """What handlers around a handler cost, and a watcher; no server has a part in it."""
    return powers_cost(20 * effort.rounds)


def viewers(server: ServerProcess, effort: Effort) -> Figures:
    """What viewers of the page cost the endpoint; no server has a part in it."""
    shares = viewers_cost(1, min(1.0, effort.seconds))
    return {f"% of a core, {name}": share for name, share in shares.items()}


def cores(server: ServerProcess, effort: Effort) -> Figures:
    """A server and its load share a core: how much more two such pairs get done on two cores than one on one."""
    effort = replace(effort, seconds=max(1.0, effort.seconds))
    with ExitStack() as stack:
        pairs = [
            (stack.enter_context(open_server_process(server.name, log=Path(os.devnull), core=core)), core)
            for core in (0, -1)
        ]
        ratios = [_rate(pairs, effort) / _rate(pairs[:1], effort) for _ in range(3)]
    return {"two processes on two cores": median(ratios)}


def _rate(pairs: list[tuple[ServerProcess, int]], effort: Effort) -> float:
    with ExitStack() as stack:
        loads = [
            stack.enter_context(
                open_load(
                    Job(
                        port=server.port,
                        routes=server.routes(ROLLOUTS),
                        connections=32,
                        body=4 * KIB,
                        seconds=effort.seconds,
                        warmup=0.5,  # so that both are under way
                    ),
                    core=core,
                )
            )
            for server, core in pairs
        ]
        return sum(seen.responses / seen.seconds for seen in [load.result() for load in loads])


def up_and_down(server: ServerProcess, effort: Effort) -> Figures:
    """How long an endpoint takes to come up and to go down; and a hundred at once."""
    times = server.tell(f"updown {effort.times}")["times"]
    burst = server.tell("burst 100")
    return {
        "up ms": 1000 * median(up for up, _ in times),
        "down ms": 1000 * median(down for _, down in times),
        "100 at once s": burst["seconds"],
        "descriptors left": burst["leaked"],
    }


def stall(server: ServerProcess, effort: Effort, *, body: int) -> Figures:
    """Huge bodies, one request at a time: how many, and how long the event loop stands still while it reads one."""
    server.tell("watch")
    seen, cpu = _load(server, effort, connections=1, body=body * KIB)
    return {
        f"req/s c=1 {body // KIB}MB": seen.responses / seen.seconds,
        f"calls/CPU s c=1 {body // KIB}MB": seen.total / cpu,
        "stall ms": 1000 * server.tell("stall")["stall"],
    }


def _load(
    server: ServerProcess,
    effort: Effort,
    *,
    connections: int,
    body: int,
    dialect: str = CHAT,
    stream: bool = False,
) -> tuple[Yield, float]:
    """A load on new rollouts; what it saw, and the seconds of its core that the server took for it."""
    job = Job(
        port=server.port,
        routes=server.routes(ROLLOUTS),
        connections=connections,
        body=body,
        dialect=dialect,
        stream=stream,
        seconds=effort.seconds,
        warmup=effort.warmup,
    )
    before = server.cpu()
    with open_load(job) as load:
        seen = load.result()
    if not seen.responses:
        raise LoadFailed(f"no answer within {effort.seconds:g} s")
    return seen, server.cpu() - before


@dataclass(frozen=True)
class Held:
    """What was seen of requests that waited."""

    grown: int
    """Bytes that the server grew by."""
    release: float
    """Seconds from their release to the last answer."""
    cpu: float
    """Seconds that the server computed for their answers."""
    answered: int


def hold(server: ServerProcess, *, rollouts: int, waiting: int, body: int = 0, agent: str = "") -> Held:
    """Let so many requests wait, and release them; with `agent`, they have its recorded bodies."""
    job = Job(port=server.port, routes=server.routes(rollouts), connections=waiting, body=body, agent=agent)
    before = server.memory()
    with open_load(job) as load:
        load.wait_sent()
        _wait_held(server, waiting)
        grown = server.memory() - before
        cpu = server.cpu()
        released_at = server.tell("release")["released_at"]
        seen = load.result()
    return Held(grown, seen.last_at - released_at, server.cpu() - cpu, seen.responses)


def _wait_held(server: ServerProcess, count: int) -> None:
    deadline = time.monotonic() + 60
    while (held := server.tell("held")["held"]) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{server.name} holds {held} of {count} requests")
        time.sleep(0.02)


SCENARIOS = [
    Scenario("answer c=1 4KB", "answer", partial(answer, connections=1, body=4)),
    Scenario("answer c=32 4KB", "answer", partial(answer, connections=32, body=4)),
    Scenario("answer c=256 4KB", "answer", partial(answer, connections=256, body=4)),
    Scenario("answer c=32 64KB", "answer", partial(answer, connections=32, body=64)),
    Scenario("answer c=1 64KB", "answer", partial(answer, connections=1, body=64), long=True),
    Scenario("answer c=256 64KB", "answer", partial(answer, connections=256, body=64), long=True),
    Scenario("stream", "stream", partial(stream, connections=50)),
    Scenario("dialects", "stream", dialects, long=True),
    Scenario("release", "hold", partial(release, waiting=2000), long=True),
    Scenario("memory", "hold", partial(memory, body=64), fresh=True, long=True),
    Scenario("crowd", "hold", partial(crowd, rollouts=1000, waiting=10_000), fresh=True, long=True),
    Scenario("endpoint", "endpoint", up_and_down, fresh=True, long=True),
    Scenario("stall", "stall", partial(stall, body=5 * KIB), fresh=True, long=True),
    Scenario("growth", "growth", growing, long=True),
    Scenario("powers", "growth", powers, long=True),
    Scenario("viewers", "growth", viewers, long=True),
    Scenario("cores", "cores", cores, long=True),
]
