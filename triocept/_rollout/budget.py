"""What one agent run may spend: `Limits`, and the budget that holds them.

Rules:

1. A turn is a call that was answered. It is reserved when the call begins, and given back when the call ends without an
   answer: refused, failed, or abandoned by the agent. So ten calls at once, at a limit of three turns, are three
   answers.
2. Tokens and cost are what the turns that are recorded have taken (see `_trace/cost`), and what the calls on their way
   have reserved: their input, as it is estimated. Of their output nothing is known, and nothing is reserved: the limit
   is held by the calls that come, which are refused once it is spent. So it can be exceeded by the output of the calls
   that were on their way, and by what an estimate is wrong.
3. The call that would cross a line is refused. What is on its way is finished; nothing is cut off but by the time.
4. A retry that shares the answer of another call is no call here.
5. A call counts against the limits of its own rollout and of all rollouts above it. The topmost that is reached counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from .._canonical.price import Price, price_of
from .._canonical.request import Request
from .._canonical.response import Usage
from .._trace.cost import models_of, usage_of
from .._trace.turn import Turn
from .._util.checks import NamesItself, check_count, check_number, check_type
from ..errors import LimitReached, MissingPrice


class Limits(msgspec.Struct, frozen=True, kw_only=True, metaclass=NamesItself):
    """What a rollout, or a handler, may spend: `open_rollout(handler, limits=Limits(turns=50, cost=2.0, prices=…))`.

    None is no limit. What is counted, and when, is said in `triocept/_rollout/budget.py` and in the how-to.

    Raises:
        TypeError: a limit is no number, or a price no `Price`.
        ValueError: a limit is less than 0, infinite or NaN; or the cost is limited, and there are no prices.
    """

    turns: int | None = None
    """Answered model calls. Calls on their way count; those that end without an answer are given back."""
    input_tokens: int | None = None
    """Of the prompts, cached ones included. A call is refused that would exceed it by its estimated input."""
    output_tokens: int | None = None
    """What the model wrote, reasoning included. Once it is spent, the next call is refused."""
    total_tokens: int | None = None
    """Both together."""
    cost: float | None = None
    """In the currency of `prices`. A call of a model that has no price there is a `MissingPrice`."""
    seconds: float | None = None
    """From the opening of the rollout on. Then it ends, and what is on its way is refused."""
    prices: Mapping[str, Price] = {}
    """By model: an exact name wins, then the first pattern that fits (`*` and `?` stand for anything)."""

    def __post_init__(self) -> None:
        for name in ("turns", "input_tokens", "output_tokens", "total_tokens", "cost", "seconds"):
            value = getattr(self, name)
            if value is not None:
                if name in ("cost", "seconds"):
                    check_number(f"Limits.{name}", value, hint="None is no limit")
                else:
                    check_count(f"Limits.{name}", value)
        what = "a mapping of models to prices"
        check_type("Limits.prices", self.prices, Mapping, what, "{model: Price(input=…, output=…)}")
        for model, price in self.prices.items():
            hint = "Price(input=…, output=…), for a million tokens"
            check_type(f"Limits.prices[{model!r}]", price, Price, "a Price", hint)
        if self.cost is not None and not self.prices:
            raise ValueError(
                "the cost is limited, and there are no prices: Limits(cost=…, prices={model: Price(…)})"
            )
        msgspec.structs.force_setattr(self, "prices", dict(self.prices))  # a value does not change


@dataclass(slots=True)
class _Sum:
    """So much of each."""

    turns: int = 0
    input: int = 0
    output: int = 0
    cost: float = 0.0

    def add(self, other: _Sum, sign: int = 1) -> None:
        self.turns += sign * other.turns
        self.input += sign * other.input
        self.output += sign * other.output
        self.cost += sign * other.cost


class Counted(Protocol):
    """An exchange, as its budgets know it."""

    budgets: tuple[Budget, ...]

    @property
    def request(self) -> Request: ...
    def estimate_input(self) -> int:
        """The tokens of its prompt."""


class Budget:
    """What was spent of some limits, and what calls on their way have reserved.

    Args:
        limits: what may be spent.
        parent: the budget of the rollout above.
        on_reached: called with each refusal of a call by these limits.
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
        self._calls: dict[Counted, _Sum] = {}
        """What each call on its way has reserved."""
        self._estimates = any(
            limit is not None for limit in (limits.input_tokens, limits.total_tokens, limits.cost)
        )
        """Whether the input of a call must be known before it is answered."""

    def admit(self, call: Counted, told: str | None) -> LimitReached | None:
        """Reserve what this call needs, here and above; or say what refuses it, and reserve nothing.

        Args:
            call: the exchange.
            told: the model that the upstream is told to ask for which will answer; None: that is the agent's, or
                nobody knows yet who will answer.

        Raises:
            MissingPrice: the cost is limited, and nobody knows what the model costs. Nothing is reserved.
        """
        levels = tuple(self._levels())
        tokens = 0
        if any(level._estimates for level in levels):
            tokens = call.estimate_input()
        models = _models_asked(call.request.model, told)
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

    def end(self, call: Counted, turn: Turn | None) -> None:
        """The call has ended, and this is its turn; None: there is none. The second time nothing happens."""
        if not self._give_back(call) or turn is None:
            return
        self._spent.turns += turn.outcome == "answered"
        if (usage := usage_of(turn)) is not None:
            self._spent.add(_Sum(0, usage.input_tokens, usage.output_tokens, self._cost(turn, usage)))

    def release(self, call: Counted) -> None:
        """The call is somebody else's from here on: it counts for nothing, here and above."""
        for level in self._levels():
            level._give_back(call)

    def _levels(self) -> Iterator[Budget]:
        """This one, and those above."""
        level: Budget | None = self
        while level is not None:
            yield level
            level = level._parent

    def _give_back(self, call: Counted) -> bool:
        """What it has reserved; whether it had."""
        needs = self._calls.pop(call, None)
        if needs is not None:
            self._reserved.add(needs, -1)
        if not self._calls:
            self._reserved = _Sum()  # sums of fractions are not exact
        return needs is not None

    def _needs(self, models: tuple[str, ...], tokens: int) -> _Sum:
        """What a call takes at least, of a model that has these names."""
        if self.limits.cost is None:
            return _Sum(1, tokens)
        price = price_of(self.limits.prices, models)
        if price is None:
            raise MissingPrice(_missing(models, self.limits.prices))
        return _Sum(1, tokens, 0, price.least(tokens))

    def _cost(self, turn: Turn, usage: Usage) -> float:
        if self.limits.cost is None:
            return 0.0
        price = price_of(self.limits.prices, models_of(turn))
        assert price is not None, "the call was admitted without a price"
        return price.cost(usage)

    def _reached(self, needs: _Sum) -> str | None:
        """Which limit a call would cross that takes so much, in words; None: it crosses none."""
        limits, spent, held = self.limits, self._spent, self._reserved
        if limits.turns is not None and spent.turns + held.turns >= limits.turns:
            turns = "turn" if limits.turns == 1 else "turns"
            waits = (
                f" ({held.turns:,} {'is' if held.turns == 1 else 'are'} being answered)" if held.turns else ""
            )
            return f"the limit of {limits.turns:,} {turns} is reached{waits}"
        if limits.output_tokens is not None and spent.output >= limits.output_tokens:
            return (
                f"the limit of {limits.output_tokens:,} output tokens is reached: {spent.output:,} are spent"
            )
        return (
            _crossed("input tokens", limits.input_tokens, spent.input, held.input, needs.input)
            or _crossed("tokens", limits.total_tokens, spent.input + spent.output, held.input, needs.input)
            or _crossed("cost", limits.cost, spent.cost, held.cost, needs.cost)
        )


def _models_asked(asked: str, told: str | None) -> tuple[str, ...]:
    """As `models_of`, before there is an answer."""
    return (asked,) if told in (None, asked) else (told, asked)


def _missing(models: tuple[str, ...], prices: Mapping[str, Price]) -> str:
    known = f"there are prices for {', '.join(prices)} ('*' is any model)"
    if len(models) == 1:
        return f"the cost is limited, and the model {models[0]!r} has no price: {known}"
    told, asked = models
    return (
        f"the cost is limited, and the model {told!r}, which the upstream is told to ask for, has no price, nor has "
        f"{asked!r}, which the agent asks for: {known}"
    )


def _crossed(what: str, limit: float | None, spent: float, held: float, needed: float) -> str | None:
    """Whether a limit is spent, or would be exceeded; in words."""
    if limit is None or (spent < limit and spent + held + needed <= limit):
        return None
    text = f"the limit of {_number(limit)} {what} is reached: {_number(spent)} spent"
    if held:
        text += f", {_number(held)} or more on the way"
    return text if spent >= limit else f"{text}, and this call would take {_number(needed)} or more"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
