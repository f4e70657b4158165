"""Print a line if a model call waits long for its answer: what the call waits for, and what ends the wait.

A line is printed for the first call that has waited `LONG` seconds without any piece of an answer. Models often take
that long, so each further line is printed only for a call that has waited `VERY_LONG` seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from .._rollout.exchange_state import ExchangeState
from .._rollout.rollout import Rollout, core_of_rollout
from .forward import Forward
from .handler_file import HandlerFile
from .live import Live
from .replay import ReplayFile
from .script import Model, Script

T = TypeVar("T")

LONG = 10.0
VERY_LONG = 60.0
EVERY = 1.0
"""Seconds between two inspections of the open calls."""


@dataclass
class Waits:
    """The calls of a rollout that wait for an answer.

    Args:
        rollout: the rollout.
        handler: the handler that answers the calls.
        live: prints the lines.
    """

    rollout: Rollout
    handler: Model
    live: Live
    _printed: set[str] = field(default_factory=set)
    """Ids of the exchanges for which a line was printed."""

    async def during(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `wait()`. Meanwhile, print the lines.

        `wait` is cancelled and called again each second, so it must not have an effect before it returns.
        """
        while True:
            with trio.move_on_after(EVERY):
                return await wait()
            self._print()

    def _print(self) -> None:
        for exchange in core_of_rollout(self.rollout).calls.open:
            long = VERY_LONG if self._printed else LONG
            waits = not exchange.settled and exchange.first_event is None and exchange.elapsed >= long
            if waits and exchange.id not in self._printed:
                self._printed.add(exchange.id)
                self.live.say(f"waiting  {exchange.elapsed:.0f} s for {_source(self.handler, exchange)}")


def _source(handler: Model, exchange: ExchangeState) -> str:
    """Return what should answer the exchange, where it waits, and what ends the wait."""
    if isinstance(handler, ReplayFile) and handler.then is not None:
        handler = handler.then
    if isinstance(handler, Forward):
        idle = exchange.rollout.addresses.limits.upstream_idle_seconds
        end = f"; the call fails after {idle:g} s of silence" if idle is not None else ""
        return f"the model at {handler.url}, which has sent no part of the answer yet{end}"
    name = f"the {'script' if isinstance(handler, Script) else 'handler'}"
    if isinstance(handler, Script | HandlerFile):
        name += f" {handler.path}"
    place = exchange.worker.place if exchange.worker is not None else ""
    where = f", which waits in {place}" if place else ""
    return f"{name}{where}; --max-seconds limits the wait, and Ctrl-C ends it"
