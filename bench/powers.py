"""What handlers around a handler cost, and a watcher: `python -m bench.powers [--rounds N]`.

An endpoint and its only client share a thread, so that a call is all that runs. The figures are instructions, which
valgrind counts (callgrind), or processor times: then the kinds of handler take turns in many short rounds, and of each
kind the fastest round counts.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import trio

import triocept
from triocept.handlers import Decision, approve, limits, rewrite, stop_when, withhold
from triocept.types import Event

from .bodies import make_body
from .callgrind import count, mark, ready
from .servers._shape import ANSWER, CHUNKS
from .wire import ResponseReader, make_request

PLAIN = "no power"
CALLS = 5
"""Calls of a kind, in each turn."""


async def answer(exchange: triocept.Exchange) -> None:
    """Answer at once, or with a stream of `CHUNKS` increments."""
    if not exchange.request.stream:
        await exchange.respond(ANSWER)
        return
    async with exchange.open_stream() as stream:
        for _ in range(CHUNKS):
            await stream.send(ANSWER)


def _same(event: Event) -> Event:
    return event


def _five() -> triocept.Handler:
    handler = rewrite(withhold(answer, network=True), event=_same)
    return limits(stop_when(_guarded(handler), lambda response: False), turns=10**9)


def _guarded(handler: triocept.Handler) -> triocept.Handler:
    return approve(handler, {"*": Decision.approve()})


KINDS: dict[str, Callable[[], triocept.Handler]] = {
    PLAIN: lambda: answer,
    "one power (approve)": lambda: _guarded(answer),
    "five powers": _five,
    "no power, a watcher": lambda: answer,
}


def powers(rounds: int = 300) -> dict[str, float]:
    """Microseconds of a call without powers, and the ratios of the others to it; of whole answers and of streams."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, took in trio.run(_measure, time.process_time).items():
            best[name] = min(best.get(name, math.inf), 1e6 * took)
    return _ratios(best, "us")


def instructions() -> dict[str, float]:
    """The same in thousands of instructions, which valgrind counts: no other program changes them."""
    counts = count("bench.powers", "--marked")
    return _ratios({name: number / 1000 / CALLS for name, number in counts.items()}, "k instructions")


def _ratios(costs: dict[str, float], unit: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, cost in costs.items():
        base = f"{PLAIN},{name.rpartition(',')[2]}"
        if name == base:
            figures[f"{unit} of a call, {name}"] = cost
        else:
            figures[f"ratio, {name}"] = cost / costs[base]
    return figures


async def _measure(clock: Callable[[], float]) -> dict[str, float]:
    """Return the time of `CALLS` calls of each kind, by name; the clock is read right before and right after them."""
    found: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(triocept.serve_endpoint())
        watched = await stack.enter_async_context(triocept.serve_endpoint(on_event=lambda event: None))
        for form in ("whole", "a stream"):
            for name, make in KINDS.items():
                endpoint = watched if "watcher" in name else plain
                rollout = await stack.enter_async_context(endpoint.open_rollout(make()))
                path = f"{urlsplit(rollout.base_url('openai_chat')).path}/chat/completions"
                request = make_request(path, rollout.api_key, make_body(4096, stream=form != "whole"))
                async with await trio.open_tcp_stream("127.0.0.1", endpoint.port) as connection:
                    await call(connection, [request] * CALLS)
                    start = clock()
                    await call(connection, [request] * CALLS)
                    found[f"{name}, {form}"] = (clock() - start) / CALLS
    return found


async def call(connection: trio.SocketStream, requests: list[bytes]) -> None:
    """Send each request when the one before it is answered."""
    reader = ResponseReader()
    for request in requests:
        await connection.send_all(request)
        while not reader.feed(await connection.receive_some(65536)):
            pass


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m bench.powers", description="What powers cost.")
    parser.add_argument("--rounds", type=int, default=0, help="measure times instead of instructions")
    parser.add_argument("--marked", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.marked:
        ready()
        print(json.dumps(list(trio.run(_measure, mark))))
        return
    for figure, value in (powers(arguments.rounds) if arguments.rounds else instructions()).items():
        print(f"{figure:45} {value:.2f}")


if __name__ == "__main__":
    main()
