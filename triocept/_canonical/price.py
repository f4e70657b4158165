"""Compute the cost of tokens, at prices that the program passes.

triocept contains no price table, because prices change, and differ from contract to contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from .._util.checks import NamesItself, check_number
from .response import Usage

_PER = 1e6
"""Number of tokens for which a price is stated: a million."""


class Price(msgspec.Struct, frozen=True, kw_only=True, metaclass=NamesItself):
    """The price of a model per million tokens. All prices, and the cost limit, must be in the same currency."""

    input: float
    output: float
    """Price of output, reasoning included."""
    cached_input: float | None = None
    """Price of input that is read from a cache; None means the price `input`."""
    cache_write: float | None = None
    """Price of input that is written to a cache; None means the price `input`."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None or name in ("input", "output"):
                check_number(f"Price.{name}", value)

    def cost(self, usage: Usage) -> float:
        """Return the cost of the tokens in `usage`."""
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        plain = max(0, usage.input_tokens - cached - written)
        cost = plain * self.input + usage.output_tokens * self.output
        cost += cached * (self.input if self.cached_input is None else self.cached_input)
        cost += written * (self.input if self.cache_write is None else self.cache_write)
        return cost / _PER

    def least(self, input_tokens: int) -> float:
        """Return the minimum cost of `input_tokens`: the cost if all of these tokens are read from a cache."""
        cached = self.input if self.cached_input is None else min(self.input, self.cached_input)
        return input_tokens * cached / _PER


def price_of(prices: Mapping[str, Price], models: Iterable[str]) -> Price | None:
    """Return the price of the first name in `models` that has a price; None if no name has a price.

    Args:
        prices: prices by the name of a model, or by a pattern (`*` and `?` are wildcards). An exact name has priority
            over patterns. If several patterns match, the first of them is used.
        models: the names of one model, in the order in which the names are looked up.
    """
    for model in models:
        if model in prices:
            return prices[model]
        for pattern, price in prices.items():
            if fnmatchcase(model, pattern):
                return price
    return None
