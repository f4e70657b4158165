"""A handler that answers within a budget, whichever rollouts it answers.

Rules:

1. What is counted, and when, is as for a rollout's own limits (see `_rollout/budget`).
2. Whoever is refused is refused by this handler: no rollout is ended by it.
3. An exchange that it has not answered, and that another handler answers, counts for nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import trio

from .._canonical.price import Price
from .._rollout.budget import Budget, Limits
from .._rollout.exchange import Exchange, core_of
from .._rollout.handler import Handler, awaiting, check_handler, told_model
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
    """`handler`, within a budget: `route({"claude-*": limits(anthropic, cost=5, prices=…), "*": local})`.

    It is one budget for all that goes through it: given to several rollouts, they share it. For the budget of one
    rollout there is `open_rollout(limits=Limits(…))`, which ends the rollout, too.

    Args:
        handler: whatever answers.
        turns, input_tokens, output_tokens, total_tokens, cost, prices: as in `Limits`.
        seconds: from the first exchange on; then what is being answered is refused.

    Raises:
        LimitReached: from an exchange: it would cross a limit, or the time is over. The agent gets 404, and
            `x-should-retry: false`.
        MissingPrice: from an exchange: the cost is limited, and its model has no price.
        TypeError, ValueError: as of `Limits`; or the handler is none.
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
    """The handler that `limits` gives."""

    def __init__(self, handler: Handler, budget: Budget, seconds: float) -> None:
        self._handler = handler
        self._budget = budget
        self._seconds = seconds
        self._deadline: float | None = None

    @property
    def _told_model(self) -> str | None:
        return told_model(self._handler)

    def __repr__(self) -> str:
        return f"<limits({self._handler!r}): {self._budget.limits}>"

    async def __call__(self, exchange: Exchange) -> None:
        if self._deadline is None:
            self._deadline = trio.current_time() + self._seconds
        if self._deadline <= trio.current_time():
            raise self._over()
        core = core_of(exchange)
        refusal = self._budget.admit(core, self._told_model)
        if refusal is not None:
            raise refusal
        try:
            with trio.CancelScope(deadline=self._deadline) as scope:
                await self._handler(exchange)
        finally:
            if not exchange.settled and core.fold is None:  # what has begun to be answered costs
                self._budget.release(core)
        if scope.cancelled_caught and not exchange.settled:
            raise self._over()

    def _over(self) -> LimitReached:
        return LimitReached(f"the limit of {self._seconds:,g} seconds is reached")
