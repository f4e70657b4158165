"""`Limits` of a rollout or a handler, and the budget that enforces them.

Rules:

1. A turn is an answered call. A turn is reserved when a call begins. If the call ends without an answer (refused,
   failed, or abandoned by the agent), the reservation is released. So if ten calls arrive at the same time and the
   limit is three turns, three of the calls are answered.
2. The tokens and the cost of the recorded turns are counted (see `_trace/cost`), and so are the reservations of calls
   in progress. A call reserves its estimated input tokens. The call's output tokens are unknown, and are not reserved.
   Once the recorded turns have used up a limit, later calls are refused. So a limit can be exceeded by the output of
   calls in progress, or by an input whose estimate was too low.
3. A call that would exceed a limit is refused. Calls in progress are finished, except if the time limit is reached.
4. A retry that gets the answer of the call that it repeats is not counted.
5. A call counts against the limits of its own rollout and of all rollouts above it. If the limits of several rollouts
   are reached, the error names the limit of the topmost rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from .._canonical.price import Price, price_of
from .._trace.cost import cost_of, usage_of
from .._trace.turn import Turn
from .._util.checks import NamesItself, check_count, check_number, check_type
from .._util.figures import counted
from ..errors import LimitReached, MissingPrice

if TYPE_CHECKING:
    from .exchange_state import ExchangeState


class Limits(msgspec.Struct, frozen=True, kw_only=True, metaclass=NamesItself):
    """Maximum turns, tokens, cost and time of a rollout, or of a handler.

    For example: `open_rollout(handler, limits=Limits(turns=50, cost=2.0, prices=…))`.

    None sets no limit. The how-to page "Limit a run" defines what is counted, and when.

    Raises:
        TypeError: a limit is not a number, or a price is not a `Price`.
        ValueError: a limit is less than 0, infinite or NaN; or `cost` is set without `prices`.
    """

    turns: int | None = None
    """Maximum number of answered model calls. A call in progress is counted, too. A call that has ended without an
    answer is not counted."""
    input_tokens: int | None = None
    """Maximum tokens of the prompts, cached tokens included. A call whose estimated input would exceed this maximum is
    refused."""
    output_tokens: int | None = None
    """Maximum tokens that the model writes, reasoning included. Once the model has written this number of tokens, the
    next call is refused."""
    total_tokens: int | None = None
    """Maximum input and output tokens together."""
    cost: float | None = None
    """Maximum cost, in the currency of `prices`. For a call to a model without a price, `MissingPrice` is raised."""
    seconds: float | None = None
    """Maximum seconds, counted from the opening of the rollout. When exceeded: the rollout ends, and calls in progress
    are refused."""
    prices: Mapping[str, Price] = {}
    """Prices by model name. An exact name has priority; otherwise the first matching pattern is used (`*` and `?` are
    wildcards)."""

    def __post_init__(self) -> None:
        for name in ("turns", "input_tokens", "output_tokens", "total_tokens", "cost", "seconds"):
            value = getattr(self, name)
            if value is not None:
                if name in ("cost", "seconds"):
                    check_number(f"Limits.{name}", value, hint="None sets no limit")
                else:
                    check_count(f"Limits.{name}", value)
        what = "a mapping of models to prices"
        check_type("Limits.prices", self.prices, Mapping, what, "write {model: Price(input=…, output=…)}")
        for model, price in self.prices.items():
            hint = "write Price(input=…, output=…), the prices of a million tokens"
            check_type(f"Limits.prices[{model!r}]", price, Price, "a Price", hint)
        if self.cost is not None and not self.prices:
            text = (
                "the cost is limited, but no prices are set: write Limits(cost=…, prices={model: Price(…)})"
            )
            raise ValueError(text)
        msgspec.structs.force_setattr(self, "prices", dict(self.prices))  # a copy: the value is immutable


@dataclass(slots=True)
class _Sum:
    turns: int = 0
    input: int = 0
    output: int = 0
    cost: float = 0.0

    def add(self, other: _Sum, sign: int = 1) -> None:
        self.turns += sign * other.turns
        self.input += sign * other.input
        self.output += sign * other.output
        self.cost += sign * other.cost


class Budget:
    """The turns, tokens and cost that count against `limits`: used by ended calls, or reserved by calls in progress.

    Args:
        limits: the limits to enforce.
        parent: the budget of the parent rollout.
        on_reached: called with the `LimitReached` each time these limits refuse a call.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        parent: Budget | None = None,
        on_reached: Callable[[LimitReached], None] = lambda refusal: None,
    ) -> None:
        self.limits = limits
        self._parent = parent
        self._on_reached = on_reached
        self._spent = _Sum()
        self._reserved = _Sum()
        self._calls: dict[ExchangeState, _Sum] = {}
        """Reservation of each call in progress."""
        estimated = (limits.input_tokens, limits.total_tokens, limits.cost)
        self._estimates = any(limit is not None for limit in estimated)
        """True if the input tokens of a call must be estimated before the call is answered."""

    def admit(self, call: ExchangeState, configured: str | None) -> LimitReached | None:
        """Reserve the turn, the tokens and the cost that `call` needs, in this budget and its parents.

        If a limit is reached, make no reservation, and return the `LimitReached` with which the call is refused.

        Args:
            call: the exchange.
            configured: the model that the upstream is configured to request. None means that the upstream requests the
                agent's model, or it is not known which upstream will answer the call.

        Raises:
            MissingPrice: the cost is limited, and the model's price is unknown. No reservation is made.
        """
        levels = tuple(self._levels())
        tokens = call.estimate_input() if any(level._estimates for level in levels) else 0
        asked_for = call.request.model
        # After the answer, `models_of` returns the names in the same order.
        models = (asked_for,) if configured in (None, asked_for) else (configured, asked_for)
        asked = [(level, level._needs(models, tokens)) for level in levels]
        for level, needs in reversed(asked):
            if (reached := level._reached(needs)) is not None:
                refusal = LimitReached(reached)
                level._on_reached(refusal)
                return refusal
        for level, needs in asked:
            level._calls[call] = needs
            level._reserved.add(needs)
            call.budgets += (level,)
        return None

    def end(self, call: ExchangeState, turn: Turn | None) -> None:
        """Count `turn`, the turn of a call that has ended. If `turn` is None, only release the call's reservation.

        A second call of `end` for the same model call has no effect.
        """
        if not self._give_back(call) or turn is None:
            return
        answered = [
            turn.outcome == "answered",
            *(draft.counted and draft.error is None for draft in turn.drafts),
        ]
        self._spent.turns += sum(answered)
        if (usage := usage_of(turn)) is not None:
            cost = 0.0 if self.limits.cost is None else cost_of([turn], self.limits.prices)
            assert cost is not None, "the call was admitted without a price"
            self._spent.add(_Sum(0, usage.input_tokens, usage.output_tokens, cost))

    def hold(self, draft: ExchangeState, turn: Turn) -> None:
        """Reserve the usage in `turn`, the record of a draft (an inner handler's answer).

        The reservation lasts until the agent's turn, which contains the draft, is counted.
        """
        turns = int(self._give_back(draft))  # the first draft has reserved the turn of the agent's exchange
        used, cost = usage_of(turn), 0.0 if self.limits.cost is None else cost_of([turn], self.limits.prices)
        held = _Sum(turns, used.input_tokens, used.output_tokens, cost or 0.0) if used else _Sum(turns)
        self._calls[draft] = held
        self._reserved.add(held)

    def release(self, call: ExchangeState) -> None:
        """Release the reservations of `call` in this budget and its parents.

        Call this method if another handler answers the call.
        """
        for level in self._levels():
            level._give_back(call)

    def _levels(self) -> Iterator[Budget]:
        level: Budget | None = self
        while level is not None:
            yield level
            level = level._parent

    def _give_back(self, call: ExchangeState) -> bool:
        """Release the reservation of a call in this budget. Return False if the call had no reservation."""
        needs = self._calls.pop(call, None)
        if needs is not None:
            self._reserved.add(needs, -1)
        if not self._calls:
            self._reserved = _Sum()  # reset to 0, because sums of fractions are not exact
        return needs is not None

    def _needs(self, models: tuple[str, ...], tokens: int) -> _Sum:
        """Return the minimum turns, tokens and cost that a call with `tokens` input tokens will use.

        `models` are names of the call's model. The cost is computed with the price of the first name that has a price.
        """
        if self.limits.cost is None:
            return _Sum(1, tokens)
        price = price_of(self.limits.prices, models)
        if price is None:
            known = f"Limits.prices contains only {', '.join(self.limits.prices)} ('*' stands for any model)"
            if len(models) == 1:
                raise MissingPrice(f"the cost is limited, but the model {models[0]!r} has no price; {known}")
            configured, asked = models
            raise MissingPrice(
                f"the cost is limited, but neither the model {configured!r} (set on the upstream) nor the model "
                f"{asked!r} (requested by the agent) has a price; {known}"
            )
        return _Sum(1, tokens, 0, price.least(tokens))

    def _reached(self, needs: _Sum) -> str | None:
        """Return an error text if a limit is used up, or if a call that spends `needs` would exceed it.

        Return None if no limit is reached.
        """
        limits, spent, held = self.limits, self._spent, self._reserved
        if limits.turns is not None and spent.turns + held.turns >= limits.turns:
            waits = f" ({held.turns:,} of them still in progress)" if held.turns else ""
            return f"the limit of {counted(limits.turns, 'turn', 'turns')} is reached{waits}"
        if (most := limits.output_tokens) is not None and spent.output + held.output >= most:
            return f"the limit of {most:,} output tokens is reached: {spent.output + held.output:,} are used"
        return (
            _crossed("input tokens", limits.input_tokens, spent.input, held.input, needs.input)
            or _crossed(
                "tokens",
                limits.total_tokens,
                spent.input + spent.output,
                held.input + held.output,
                needs.input,
            )
            or _crossed("for the cost", limits.cost, spent.cost, held.cost, needs.cost)
        )


def _crossed(what: str, limit: float | None, spent: float, held: float, needed: float) -> str | None:
    """Return an error text if `limit` is used up, or if `needed` would exceed it. Otherwise return None.

    Ended calls have used the amount `spent`; calls in progress have reserved the amount `held`. `what` is the name of
    the limited quantity in the error text, such as `tokens`.
    """
    if limit is None or (spent < limit and spent + held + needed <= limit):
        return None
    text = f"the limit of {_number(limit)} {what} is reached: {_number(spent)} are used"
    if held:
        text += f", calls in progress need {_number(held)} or more"
    return text if spent >= limit else f"{text}, and this call would need {_number(needed)} or more"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
