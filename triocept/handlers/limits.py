"""`limits`: a handler with a budget. All rollouts that use this handler share the budget.

Rules:

1. The budget counts answered calls, tokens, costs and seconds in the same way as the limits of a rollout (see
   `_rollout/budget`).
2. The handler refuses each exchange that would exceed a limit; it does not end the rollout.
3. An exchange counts against the budget only if this handler answers it. (Within `fallback`, another handler may answer
   the exchange.)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import trio

from .._canonical.price import Price
from .._rollout.budget import Budget, Limits
from .._rollout.exchange import Exchange, core_of
from .._rollout.handler import Handler, awaiting, check_handler, configured_model
from .._util.checks import with_known_keywords
from ..errors import LimitReached


@with_known_keywords
def limits(
    handler: Handler,
    *,
    turns: int | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    total_tokens: int | None = None,
    cost: float | None = None,
    seconds: float | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Handler:
    """Return a handler that lets `handler` answer until a limit is reached: `limits(anthropic, cost=5, prices=…)`.

    All exchanges that the returned handler answers share one budget, even if they belong to several rollouts. To limit
    one rollout, use `open_rollout(limits=Limits(…))`, which also ends the rollout.

    Args:
        handler: the handler that answers.
        turns, input_tokens, output_tokens, total_tokens, cost, prices: see `Limits`.
        seconds: maximum seconds, counted from the first exchange. When exceeded: the exchanges in progress and all
            later exchanges are refused.

    Raises:
        LimitReached: an exchange would exceed a limit, or `seconds` have passed. The agent gets 404 with
            `x-should-retry: false`.
        MissingPrice: `cost` is given, and `prices` has no price for the model of an exchange.
        TypeError, ValueError: as in `Limits`; or `handler` is not a handler.
    """
    check_handler(handler)
    bounds = Limits(
        turns=turns,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=total_tokens,
        cost=cost,
        seconds=seconds,
        prices=prices or {},
    )
    return _Limited(awaiting(handler), Budget(bounds), inf if seconds is None else seconds)


class _Limited:
    """The handler that `limits` returns."""

    def __init__(self, handler: Handler, budget: Budget, seconds: float) -> None:
        self._handler = handler
        self._budget = budget
        self._seconds = seconds
        self._deadline: float | None = None

    @property
    def _configured_model(self) -> str | None:
        return configured_model(self._handler)

    def __repr__(self) -> str:
        return f"<limits({self._handler!r}): {self._budget.limits}>"

    async def __call__(self, exchange: Exchange) -> None:
        if self._deadline is None:
            self._deadline = trio.current_time() + self._seconds
        if self._deadline <= trio.current_time():
            raise self._over()
        core = core_of(exchange)
        refusal = self._budget.admit(core, self._configured_model)
        if refusal is not None:
            raise refusal
        try:
            with trio.CancelScope(deadline=self._deadline) as scope:
                await self._handler(exchange)
        finally:
            if not exchange.settled and core.fold is None:  # an answer that has begun still counts
                self._budget.release(core)
        if scope.cancelled_caught and not exchange.settled:
            raise self._over()

    def _over(self) -> LimitReached:
        return LimitReached(f"the limit of {self._seconds:,g} seconds is reached")
