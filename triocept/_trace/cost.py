"""What turns have used, and what that cost.

Rules:

1. An answer costs what its usage says; where nobody counted, that is an estimate (`usage.estimated`).
2. An answer that broke off costs too: what the provider said until then, or an estimate of what had come. A turn in
   which nothing was answered costs nothing.
3. A turn costs what its model costs. That has up to three names: the one that an upstream was told to ask for, the one
   that the agent asked for, and the one that the answer names. The first that has a price counts: of the upstream's
   own, the answer's and the agent's, in this order; without the first, of the agent's and the answer's. A limit on the
   cost, which asks before there is an answer, knows the same but for the answer's (`_rollout/budget`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from .._canonical.price import Price, price_of
from .._canonical.response import Response, Usage
from .._canonical.tokens import estimate_usage
from .turn import UPSTREAM, Turn


def usage_of(turn: Turn) -> Usage | None:
    """The tokens that this turn took; None: nothing was answered."""
    response = turn.response
    if response is None:
        return None
    if turn.outcome == "answered":
        return response.usage or estimate_usage(turn.request, response)
    return _broken_off(turn, response)


def _broken_off(turn: Turn, response: Response) -> Usage | None:
    """What a provider tells at the start of a stream holds of the input, and of the output as far as it goes."""
    if not response.content and response.usage is None:
        return None
    about = estimate_usage(turn.request, response)
    if response.usage is None:
        return about
    output = max(response.usage.output_tokens, about.output_tokens if response.content else 0)
    return msgspec.structs.replace(response.usage, output_tokens=output)


def usage_of_all(usages: Iterable[Usage]) -> Usage:
    """All of it together; None is left out, and is what there is of nothing but None."""
    whole = Usage(input_tokens=0, output_tokens=0)
    for usage in usages:
        whole = Usage(
            input_tokens=whole.input_tokens + usage.input_tokens,
            output_tokens=whole.output_tokens + usage.output_tokens,
            cached_tokens=_plus(whole.cached_tokens, usage.cached_tokens),
            cache_write_tokens=_plus(whole.cache_write_tokens, usage.cache_write_tokens),
            reasoning_tokens=_plus(whole.reasoning_tokens, usage.reasoning_tokens),
            estimated=whole.estimated or usage.estimated,
        )
    return whole


def _plus(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def models_of(turn: Turn) -> tuple[str, ...]:
    """The names of the model that answered, the surest first."""
    note = turn.notes.get(UPSTREAM)
    asked: str | None = note.get("model") if isinstance(note, dict) else None
    answered = turn.response.model if turn.response is not None else ""
    return (asked, answered, turn.request.model) if asked else (turn.request.model, answered)


def cost_of(turns: Iterable[Turn], prices: Mapping[str, Price]) -> float | None:
    """What these turns cost; None: the price of a model that answered is missing."""
    total = 0.0
    for turn in turns:
        if (usage := usage_of(turn)) is not None:
            price = price_of(prices, models_of(turn))
            if price is None:
                return None
            total += price.cost(usage)
    return total
