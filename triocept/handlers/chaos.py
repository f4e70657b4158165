"""A handler of which some calls go wrong: as often as its rates say, and for one seed always the same ones.

Rules:

1. One draw for each call: it gets one of the faults, or its answer. So rates add up, and are no more than 1 together.
2. What is drawn follows from the seed and from which call of its rollout it is, the first, the second, …, and from
   nothing else: not from what is asked, nor from any other rollout. Of one around another each draws for itself.
3. The turn says what was drawn, in its notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from itertools import accumulate
from random import Random
from typing import Any, cast
from weakref import WeakKeyDictionary

from .._rollout.exchange import Exchange
from .._rollout.handler import Handler, awaiting, check_handler, told_model
from .._rollout.rollout import Rollout
from .._util.checks import check_count, check_mapping, check_number, with_known_keywords
from .faults import Fault

_DEPTH: ContextVar[int] = ContextVar("triocept.chaos.depth", default=0)
"""How many of these a call has passed on its way."""


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
    """`handler`, of which some calls go wrong: `chaos(model, seed=1, rate_limit=0.1, reset=0.05)`.

    The same seed, and the same calls, give the same trace: the n-th call of a rollout gets what was drawn for the n-th,
    in every rollout and every run. Calls are numbered as they come to this handler; of calls that an agent makes at
    once, which one comes first is the agent's affair, and no more than that can change. For another course give each
    rollout a seed of its own.

    Args:
        handler: whatever answers the others; where `triocept.testing` serves it, a plain function, too.
        seed: what is drawn; 0 or more.
        rate_limit: how often a call is told 429, with `retry-after: 0`; all rates are from 0 to 1.
        overloaded, server_error: how often it is told 529, or 500.
        html: how often it gets a proxy's page with 502.
        reset: how often its connection is reset before the head.
        cut: how often it is cut in the middle (of a text of the fault's own: the handler is not asked).
        unended: how often an answer stops in the middle as if it were whole; likewise.
        stall: how often nothing comes, until the agent hangs up.
        empty: how often it gets 200 without a body.
        garbage: how often something in its answer is no JSON.
        error_event: how often an error stands in the middle of the answer, behind 200.
        faults: further ones, each with its rate: `{Fault.status(404): 0.01}`.

    Raises:
        TypeError, ValueError: an argument is not what it should be, or the rates are more than 1 together.
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
        **_further(faults),
    }
    for name, (_, rate) in rates.items():
        check_number(name, rate)
    if (total := sum(rate for _, rate in rates.values())) > 1 + 1e-9:
        raise ValueError(f"the rates are no more than 1 together, not {total:g}")
    drawn = [each for each in rates.values() if each[1]]
    return Chaos(cast(Handler, handler), seed, drawn)


def _further(faults: Mapping[Fault, float] | None) -> dict[str, tuple[Fault, float]]:
    check_mapping("faults", faults or {})
    for fault in faults or {}:
        if not isinstance(fault, Fault):
            raise TypeError(f"faults is a mapping of faults to rates: {fault!r} is no Fault")
    return {f"faults[{fault!r}]": (fault, rate) for fault, rate in (faults or {}).items()}


class Chaos:
    """The handler that `chaos` gives."""

    def __init__(self, inner: Handler, seed: int, rates: list[tuple[Fault, float]]) -> None:
        self._handler_within = inner
        self._handler = awaiting(inner)
        self._seed = seed
        self._rates = rates
        self._bounds = list(accumulate(rate for _, rate in rates))
        self._faults = [fault for fault, _ in rates]
        self._counts: WeakKeyDictionary[Rollout, int] = WeakKeyDictionary()

    def around(self, change: Callable[[Handler], Handler]) -> Chaos:
        """The same, around what is made of its handler."""
        return Chaos(change(self._handler_within), self._seed, self._rates)

    @property
    def _told_model(self) -> str | None:
        return told_model(self._handler_within)

    def __repr__(self) -> str:
        faults = ", ".join(map(repr, self._faults)) or "nothing"
        return f"<chaos({self._handler_within!r}, seed={self._seed}): {faults}>"

    async def __call__(self, exchange: Exchange) -> None:
        number = self._counts.get(exchange.rollout, 0)
        self._counts[exchange.rollout] = number + 1
        depth = _DEPTH.get()
        fault = self._draw(number, depth)
        if fault is not None:
            exchange.annotate(chaos=repr(fault))
            await fault(exchange)
            return
        token = _DEPTH.set(depth + 1)
        try:
            await self._handler(exchange)
        finally:
            _DEPTH.reset(token)

    def _draw(self, number: int, depth: int) -> Fault | None:
        """What the call of this number gets; None: its answer."""
        # A text is taken alike by every Python, on every machine.
        place = f"{self._seed} {number}" if not depth else f"{self._seed} {number} {depth}"
        drawn = Random(place).random()
        return next(
            (fault for bound, fault in zip(self._bounds, self._faults, strict=True) if drawn < bound), None
        )
