"""`--max-turns` and related options: set the limits of a run, such as its cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, nan
from pathlib import Path
from typing import Any

import click
import msgspec

from .._canonical.price import Price, price_of
from .._rollout.budget import Limits
from .agent_plan import TO_END
from .forward import Forward
from .options import F, Option, WholeNumber, add_options, existing_file


def _amount(text: str) -> float:
    """Convert `text` to a number that is 0 or more. Unlike `float`, this function does not accept `nan` and `inf`."""
    try:
        amount = float(text)
    except ValueError:
        amount = nan
    if not 0 <= amount < inf:
        raise click.BadParameter(f"{text!r} is not a number of 0 or more; write a number without a unit.")
    return amount


_in_limits = partial(click.option, cls=Option, group="Limits of a run")
limit_options: Callable[[F], F] = add_options(
    _in_limits(
        "--max-turns", type=WholeNumber(0), metavar="N", help="End an agent's run after N answered calls."
    ),
    _in_limits(
        "--max-tokens",
        type=WholeNumber(0),
        metavar="N",
        help="End an agent's run after N tokens, input and output together.",
    ),
    _in_limits(
        "--max-seconds",
        type=_amount,
        metavar="SECONDS",
        help=f"End an agent's run SECONDS after its start: all later calls are refused. If the agent still runs "
        f"{TO_END:g} s later, it gets SIGTERM.",
    ),
    _in_limits(
        "--max-cost",
        type=_amount,
        metavar="COST",
        help="End an agent's run when its calls have cost COST, in the currency of the prices.",
    ),
    _in_limits(
        "--price",
        multiple=True,
        metavar="MODEL=INPUT,OUTPUT[,CACHED]",
        help="Prices of MODEL for a million tokens: input, output and cached input. `*` in MODEL stands for any text. "
        "May be given several times.",
    ),
    existing_file(
        "--prices",
        "Limits of a run",
        'JSON file with the prices of models for a million tokens: {"MODEL": {"input": …, "output": …, '
        '"cached_input": …, "cache_write": …}}.',
    ),
)


def limits_of(options: dict[str, Any], forward: Forward | None) -> Limits:
    """Return the limits that `options` describe, and remove the options of the limits from `options`.

    If `forward` names a model, the price of that model counts for each call, whatever model the agent requests. Raise
    click.UsageError if a price is invalid, or if `--max-cost` is given without prices.
    """
    model = None if forward is None else forward.model
    file: Path | None = options.pop("prices")
    prices = {} if file is None else _read_prices(file)
    prices |= dict(_parse_price(option) for option in options.pop("price"))
    if model is not None and "*" not in prices and (price := price_of(prices, (model,))) is not None:
        prices["*"] = price
    cost = options.pop("max_cost")
    if cost is not None and not prices:
        raise click.UsageError("--max-cost needs prices: add --price MODEL=INPUT,OUTPUT or --prices FILE")
    return Limits(
        turns=options.pop("max_turns"),
        total_tokens=options.pop("max_tokens"),
        seconds=options.pop("max_seconds"),
        cost=cost,
        prices=prices,
    )


def _parse_price(option: str) -> tuple[str, Price]:
    model, _, numbers = option.rpartition("=")
    try:
        amounts = [_amount(number) for number in numbers.split(",")]
        if not model or not 2 <= len(amounts) <= 3:
            raise click.BadParameter("the value must contain a model and two or three prices.")
    except click.BadParameter as exc:
        raise click.UsageError(
            f"--price {option}: {exc.message} Write MODEL=INPUT,OUTPUT or MODEL=INPUT,OUTPUT,CACHED, each the price "
            "of a million tokens, as in m=1.25,10"
        ) from exc
    return model, Price(input=amounts[0], output=amounts[1], cached_input=amounts[2] if amounts[2:] else None)


def _read_prices(file: Path) -> dict[str, Price]:
    form = '{"MODEL": {"input": 3, "output": 15}}'
    try:
        document = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise click.UsageError(
            f"--prices {file}: {exc}; the file must hold a JSON object of the form {form}"
        ) from exc
    prices: dict[str, Price] = {}
    for model, price in document.items():
        try:
            prices[model] = msgspec.convert(price, Price)
        except (msgspec.ValidationError, ValueError) as exc:
            raise click.UsageError(
                f"--prices {file}: the price of {model!r} is invalid: {exc}; write {form}"
            ) from exc
    return prices
