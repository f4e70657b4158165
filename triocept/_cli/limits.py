"""`--max-turns` and related options: the budget of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from math import inf, nan
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from .._canonical.price import Price, price_of
from .._rollout.budget import Limits

F = TypeVar("F", bound=Callable[..., Any])


def _amount(text: str) -> float:
    """Return a number from 0 on: Python's `float` accepts `nan` and `inf`, too."""
    try:
        amount = float(text)
    except ValueError:
        amount = nan
    if not 0 <= amount < inf:
        raise click.BadParameter(f"{text} is not a number from 0 on.")
    return amount


_OPTIONS = (
    click.option(
        "--max-turns", type=click.IntRange(0), metavar="N", help="End the run after N answered calls."
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(0),
        metavar="N",
        help="End it after N tokens, input and output together.",
    ),
    click.option("--max-seconds", type=_amount, metavar="SECONDS", help="End it after so long."),
    click.option(
        "--max-cost",
        type=_amount,
        metavar="COST",
        help="End it when it has cost so much, in the currency of the prices.",
    ),
    click.option(
        "--price",
        "price",
        multiple=True,
        metavar="MODEL=INPUT,OUTPUT[,CACHED]",
        help="What a million tokens of a model cost; `*` in MODEL stands for anything. May be given several times.",
    ),
    click.option(
        "--prices",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help='A JSON file of prices: {"MODEL": {"input": …, "output": …, "cached_input": …, "cache_write": …}}.',
    ),
)


def limit_options(command: F) -> F:
    """Add the limit options to a command that opens a rollout; it gets `limits`."""

    @wraps(command)
    def with_limits(
        *,
        max_turns: int | None,
        max_tokens: int | None,
        max_seconds: float | None,
        max_cost: float | None,
        price: tuple[str, ...],
        prices: Path | None,
        **others: Any,
    ) -> Any:
        known = _prices(price, prices, getattr(others.get("forward"), "model", None))
        if max_cost is not None and not known:
            raise click.UsageError("--max-cost needs --price MODEL=INPUT,OUTPUT or --prices FILE")
        limits = Limits(
            turns=max_turns, total_tokens=max_tokens, seconds=max_seconds, cost=max_cost, prices=known
        )
        return command(limits=limits, **others)

    made: Any = with_limits
    for option in reversed(_OPTIONS):
        made = option(made)
    return made  # type: ignore[no-any-return]


def _prices(options: Iterable[str], file: Path | None, model: str | None) -> dict[str, Price]:
    """Return all given prices. A call answered by `model`, whatever the agent requests, costs the price of `model`."""
    prices = dict(_parsed(option) for option in options)
    if file is not None:
        prices = _read(file) | prices
    if model is not None and "*" not in prices and (price := price_of(prices, (model,))) is not None:
        prices["*"] = price
    return prices


def _parsed(option: str) -> tuple[str, Price]:
    model, _, numbers = option.rpartition("=")
    try:
        amounts = _amounts(numbers)
        if inf in amounts:
            raise ValueError("a price is a number from 0 on")
        if not model or not 2 <= len(amounts) <= 3:
            raise ValueError(
                "it is MODEL=INPUT,OUTPUT or MODEL=INPUT,OUTPUT,CACHED: what a million tokens cost, as in m=1.25,10"
            )
        cached = amounts[2] if len(amounts) == 3 else None
        return model, Price(input=amounts[0], output=amounts[1], cached_input=cached)
    except ValueError as exc:
        raise click.UsageError(f"--price {option}: {exc}") from exc


def _amounts(numbers: str) -> list[float]:
    try:
        return [float(number) for number in numbers.split(",")]
    except ValueError:
        return []


def _read(file: Path) -> dict[str, Price]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Price])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise click.UsageError(f"--prices {file}: {exc}{_which(file)}") from exc


def _which(file: Path) -> str:
    """Return the model with an invalid price, if there is one: msgspec's error calls it `[...]`."""
    try:
        document = msgspec.json.decode(file.read_bytes())
        for model, price in document.items():
            try:
                msgspec.convert(price, Price)
            except (msgspec.ValidationError, ValueError):
                return f", of {model!r}"
    except (AttributeError, OSError, msgspec.DecodeError, UnicodeDecodeError):
        pass
    return ""
