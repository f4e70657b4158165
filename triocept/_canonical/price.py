"""What tokens cost: prices that the program gives.

There is no table of prices in here: they change, and differ from contract to contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from .._util.checks import NamesItself, check_number
from .response import Usage

_PER = 1e6
"""Tokens that a price is for."""


class Price(msgspec.Struct, frozen=True, kw_only=True, metaclass=NamesItself):
    """What a model costs: for each million tokens, in any currency (that of the limit on the cost)."""

    input: float
    output: float
    """Reasoning is output."""
    cached_input: float | None = None
    """For input that is read from a cache; None: as any input."""
    cache_write: float | None = None
    """For input that is written to a cache; None: as any input."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None or name in ("input", "output"):
                check_number(f"Price.{name}", value)

    def cost(self, usage: Usage) -> float:
        """What these tokens cost."""
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        plain = max(0, usage.input_tokens - cached - written)
        cost = plain * self.input + usage.output_tokens * self.output
        cost += cached * (self.input if self.cached_input is None else self.cached_input)
        cost += written * (self.input if self.cache_write is None else self.cache_write)
        return cost / _PER

    def least(self, input_tokens: int) -> float:
        """What so much input costs at least: all of it may come from a cache."""
        cached = self.input if self.cached_input is None else min(self.input, self.cached_input)
        return input_tokens * cached / _PER


def price_of(prices: Mapping[str, Price], models: Iterable[str]) -> Price | None:
    """The price of the first of these models that has one; None: none has.

    Args:
        prices: by model: an exact name wins, then the first pattern that fits (`*` and `?` stand for anything).
        models: names of one and the same model.
    """
    for model in models:
        if model in prices:
            return prices[model]
        for pattern, price in prices.items():
            if fnmatchcase(model, pattern):
                return price
    return None
