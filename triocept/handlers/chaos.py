"""`chaos`: a handler that makes some calls fail, at given rates. With the same seed, the same calls fail.

Rules:

1. For each call, one random number decides which fault the call gets, or that the wrapped handler answers. So the sum
   of all rates is at most 1.
2. The random number (the draw) depends only on the seed and on the number of the call in its rollout. The draw depends
   neither on the content of the request nor on other rollouts. Nested `chaos` handlers make independent draws.
3. If a call gets a fault, the notes of its turn name the fault.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from itertools import accumulate
from random import Random
from typing import Any, cast
from weakref import WeakKeyDictionary

from .._rollout.exchange import Exchange
from .._rollout.handler import Handler, awaiting, check_handler, configured_model
from .._rollout.rollout import Rollout
from .._util.checks import check_count, check_mapping, check_number, with_known_keywords
from .faults import Fault

_DEPTH: ContextVar[int] = ContextVar("triocept.chaos.depth", default=0)
"""Number of `chaos` handlers that the current call has passed on its way through nested handlers."""


@with_known_keywords
def chaos(
    handler: Handler | Callable[[Any], None],
    *,
    seed: int,
    rate_limit: float = 0.0,
    overloaded: float = 0.0,
    server_error: float = 0.0,
    html: float = 0.0,
    reset: float = 0.0,
    cut: float = 0.0,
    unended: float = 0.0,
    stall: float = 0.0,
    empty: float = 0.0,
    garbage: float = 0.0,
    error_event: float = 0.0,
    faults: Mapping[Fault, float] | None = None,
) -> Handler:
    """Return a handler that makes some calls fail; `handler` answers the others: `chaos(model, seed=1, reset=0.05)`.

    The same seed and the same calls give the same trace. The n-th call of a rollout gets the n-th draw, in every
    rollout and every run. Calls are numbered in the order in which they reach this handler. If the agent sends calls
    concurrently, the order of the calls may differ between runs, and other calls may fail. For different draws, give
    each rollout its own seed.

    Args:
        handler: the handler that answers all other calls. `triocept.testing` also accepts a plain function here.
        seed: seed of the draws; 0 or more.
        rate_limit: share (0 to 1, like all rates) of calls that get status 429 with `retry-after: 0`.
        overloaded, server_error: shares of calls that get status 529 (overloaded) or 500 (server error).
        html: share of calls that get status 502 and a proxy's HTML page.
        reset: share of calls whose connection is reset before the response head is sent.
        cut: share of calls whose connection is closed in the middle of the answer. `handler` is not called: the fault
            itself contains the beginning of the answer.
        unended: share of calls whose answer stops in the middle, although the HTTP message is complete. `handler` is
            not called.
        stall: share of calls that get no byte of a response until the agent disconnects.
        empty: share of calls that get status 200 without a body.
        garbage: share of calls whose answer contains bytes that are not JSON.
        error_event: share of calls that get status 200, and then an error event in the stream.
        faults: further faults, each with its rate: `{Fault.status(404): 0.01}`.

    Raises:
        TypeError, ValueError: an argument is invalid, or the rates add up to more than 1.
    """
    check_handler(handler, plain=True)
    check_count("seed", seed)
    rates = {
        "rate_limit": (Fault.status(429, retry_after=0), rate_limit),
        "overloaded": (Fault.status(529), overloaded),
        "server_error": (Fault.status(500), server_error),
        "html": (Fault.html(502), html),
        "reset": (Fault.reset(), reset),
        "cut": (Fault.cut(), cut),
        "unended": (Fault.unended(), unended),
        "stall": (Fault.stall(), stall),
        "empty": (Fault.empty(), empty),
        "garbage": (Fault.garbage(), garbage),
        "error_event": (Fault.error_event(after=2), error_event),
    }
    check_mapping("faults", faults or {})
    for fault, rate in (faults or {}).items():
        if not isinstance(fault, Fault):
            raise TypeError(f"faults must be a mapping of faults to rates; {fault!r} is not a Fault")
        rates[f"faults[{fault!r}]"] = fault, rate
    for name, (_, rate) in rates.items():
        check_number(name, rate)
    if (total := sum(rate for _, rate in rates.values())) > 1 + 1e-9:
        raise ValueError(f"the sum of the rates must be 1 or less, not {total:g}")
    drawn = [each for each in rates.values() if each[1]]
    return Chaos(cast(Handler, handler), seed, drawn)


class Chaos:
    """The handler that `chaos` returns."""

    def __init__(self, inner: Handler, seed: int, rates: list[tuple[Fault, float]]) -> None:
        self._handler_within = inner
        self._handler = awaiting(inner)
        self._seed = seed
        self._rates = rates
        self._bounds = list(accumulate(rate for _, rate in rates))
        self._faults = [fault for fault, _ in rates]
        self._counts: WeakKeyDictionary[Rollout, int] = WeakKeyDictionary()

    def around(self, change: Callable[[Handler], Handler]) -> Chaos:
        """Return a copy that wraps `change(handler)` in place of `handler`, with the same seed and rates."""
        return Chaos(change(self._handler_within), self._seed, self._rates)

    @property
    def _configured_model(self) -> str | None:
        return configured_model(self._handler_within)

    def __repr__(self) -> str:
        faults = ", ".join(map(repr, self._faults)) or "nothing"
        return f"<chaos({self._handler_within!r}, seed={self._seed}): {faults}>"

    async def __call__(self, exchange: Exchange) -> None:
        number = self._counts.get(exchange.rollout, 0)
        self._counts[exchange.rollout] = number + 1
        depth = _DEPTH.get()
        # `Random` derives the same state from a text in every Python version, on every machine.
        place = f"{self._seed} {number}" if not depth else f"{self._seed} {number} {depth}"
        drawn = Random(place).random()
        if (drawn_number := bisect_right(self._bounds, drawn)) < len(self._faults):
            fault = self._faults[drawn_number]
            exchange.annotate(chaos=repr(fault))
            await fault(exchange)
            return
        token = _DEPTH.set(depth + 1)
        try:
            await self._handler(exchange)
        finally:
            _DEPTH.reset(token)
