"""Where the time of a call goes: `python -m bench.profile [--connections N] [--body KIB]`.

The functions of each layer are wrapped with a clock, which counts only the time that the thread runs: the total is by
the same clock, and time that other programs take counts for neither. A function's time is its own: what another wrapped
function takes within it counts for that one's layer, and the clock's own cost is measured and taken off. What no clock
saw is trio: its loop, its tasks, and the steps from coroutine to coroutine. What the garbage collector takes falls to
whoever makes it run.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import trio
from rich.console import Console
from rich.table import Table

import triocept
from triocept._canonical import tokens
from triocept._rollout import answer, calls, exchange_state, rollout_state
from triocept._server import base_connection, delivery, documents, http11, intake, keys
from triocept._trace import redaction, trace
from triocept._util.bare_socket import BareSocket
from triocept.dialects import Dialect
from triocept.dialects.openai_chat import OPENAI_CHAT

from .load import Job
from .processes import core_at, open_load, pin
from .servers._shape import ANSWER

ROLLOUTS = 32

LAYERS: dict[str, list[tuple[Any, str]]] = {
    "the kernel: recv and send": [(BareSocket, "take"), (base_connection.Outbox, "write")],
    "HTTP: head, body, framing": [
        (http11.HTTP11, "_read"),
        (http11.Inbox, "take"),
        (http11.HTTP11, "write"),
    ],
    "the key": [(keys.Keys, "rollout"), (keys.Keys, "redacted")],
    "JSON: decode": [(intake, "_decode"), (documents, "decode_json")],
    "the dialect: read the request": [(OPENAI_CHAT, "parse_request"), (intake, "whole_request")],
    "conversation, retry check": [
        (rollout_state, "claimed_conversation"),
        (rollout_state, "retry_key"),
        (calls.Calls, "find"),
        (calls.Calls, "add"),
        (calls.Calls, "end"),
        (calls.Calls, "leave"),
    ],
    "the exchange: make, hand over, settle": [
        (exchange_state.ExchangeState, "__init__"),
        (calls.Arrivals, "put"),
        (exchange_state.ExchangeState, "complete"),
        (answer.Answer, "end"),
        (answer.Subscription, "close"),
    ],
    "tokens: estimate": [(tokens.Estimator, "input_tokens")],
    "the turn: build and record": [
        (exchange_state.ExchangeState, "_turn"),
        (redaction.Redactor, "request"),
        (trace.TraceWriter, "add"),
    ],
    "the dialect: write the answer, JSON": [(delivery._HTTPDelivery, "_whole_reply")],
}  # fmt: skip
REST = "trio: loop, tasks, coroutines"


@dataclass
class Profile:
    """Microseconds of a call, by layer."""

    layers: dict[str, float]
    calls: int

    @property
    def total(self) -> float:
        return sum(self.layers.values())


@dataclass
class Clock:
    """Says how long each layer's functions took, without what was measured within them."""

    spent: dict[str, int] = field(default_factory=dict)
    """Nanoseconds."""
    ticks: dict[str, int] = field(default_factory=dict)
    """How many calls were measured."""
    _inner: list[int] = field(default_factory=lambda: [0])

    def wrap(self, function: Callable[..., Any], layer: str) -> Callable[..., Any]:
        """The function, measured."""
        clock, inner = time.thread_time_ns, self._inner
        self.spent.setdefault(layer, 0)
        self.ticks.setdefault(layer, 0)

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            inner.append(0)
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                took = clock() - start
                self.spent[layer] += took - inner.pop()
                self.ticks[layer] += 1
                inner[-1] += took

        return measured

    def clear(self) -> None:
        """Begin at 0."""
        for layer in self.spent:
            self.spent[layer] = self.ticks[layer] = 0

    def cost(self) -> tuple[float, float]:
        """What one measured call costs, in nanoseconds: to the layer, and outside of what it sees."""
        times = 20_000
        other = Clock()
        nothing = other.wrap(lambda: None, "")
        start = time.thread_time_ns()
        for _ in range(times):
            nothing()
        seen = other.spent[""] / times
        return seen, (time.thread_time_ns() - start) / times - seen


async def profile(connections: int, body: int, seconds: float) -> Profile:
    """Measure an endpoint of this process, under the load of another one."""

    async def handler(caught: triocept.Exchange) -> None:
        await caught.respond(ANSWER)

    clock = Clock()
    for layer, functions in LAYERS.items():
        for owner, name in functions:
            wrapped = clock.wrap(getattr(owner, name), layer)
            if isinstance(owner, Dialect):  # it is frozen
                vars(owner)[name] = wrapped
            else:
                setattr(owner, name, wrapped)
    inside, outside = clock.cost()
    async with triocept.serve_endpoint() as endpoint, AsyncExitStack() as stack:
        routes = []
        for _ in range(ROLLOUTS):
            opened = await stack.enter_async_context(endpoint.open_rollout(handler))
            path = urlsplit(opened.base_url("openai_chat")).path
            routes.append([f"{path}/chat/completions", opened.api_key])
        job = Job(
            port=endpoint.port,
            routes=routes,
            connections=connections,
            body=body * 1024,
            seconds=seconds,
            warmup=0.5,
        )
        await trio.to_thread.run_sync(_load, Job(**{**vars(job), "seconds": 0.5}))
        clock.clear()
        start = time.thread_time_ns()
        count = await trio.to_thread.run_sync(_load, job)
        total = time.thread_time_ns() - start
    found = {
        layer: max(0.0, clock.spent[layer] - inside * clock.ticks[layer]) / count / 1000 for layer in LAYERS
    }
    ticks = sum(clock.ticks.values())
    found[REST] = (total - ticks * (inside + outside)) / count / 1000 - sum(found.values())
    return Profile(found, count)


def _load(job: Job) -> int:
    with open_load(job) as load:
        return load.result().total


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Where a call's time goes.")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--body", type=int, default=4, metavar="KIB")
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    pin(core_at(-1))
    seen = trio.run(profile, arguments.connections, arguments.body, arguments.seconds)
    table = Table("layer", "us", "share", title=f"{arguments.connections} connections, {arguments.body} KiB")
    for layer, spent in seen.layers.items():
        table.add_row(layer, f"{spent:.1f}", f"{100 * spent / seen.total:.0f} %")
    table.add_row("a call", f"{seen.total:.1f}", "")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
