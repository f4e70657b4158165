"""Count the tokens that turns used, and compute their cost.

Rules:

1. An answer costs the tokens in its usage. If the provider sent no usage, the usage is an estimate (`usage.estimated`).
2. A broken answer has a cost, too. This cost is computed from the usage that the provider sent before the answer broke
   off. If the provider sent no usage, the cost is computed from an estimate for the received content. The cost of a
   turn without any answer is 0.
3. The price of a turn is the price of its model. A model has up to three names: the `model=` of an upstream, the name
   that the agent requested, and the name in the answer. The first name that has a price is used. If the upstream has a
   `model=`, the order is: the upstream's name, the answer's name, the agent's name. Otherwise the order is: the agent's
   name, the answer's name. A cost limit is checked before the answer arrives, so the check cannot use the answer's name
   (`_rollout/budget`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from .._canonical.content import Json
from .._canonical.price import Price, price_of
from .._canonical.response import Response, Usage
from .._canonical.tokens import estimate_usage
from .turn import UPSTREAM, Turn


def usage_of(turn: Turn) -> Usage | None:
    """Return the tokens of a turn's answer and of its drafts with `counted=True`.

    Return None if the turn has neither an answer nor such a draft.
    """
    own = answer_usage(turn)
    if not turn.drafts:
        return own
    usages = [usage for _, usage in _spent(turn)]
    return usage_of_all(usages) if usages else None


def _spent(turn: Turn) -> Iterator[tuple[tuple[str, ...], Usage]]:
    """Yield the names of the model and the usage: for a turn's answer, and for each draft with `counted=True`."""
    broken = turn.outcome != "answered" and bool(turn.drafts)  # such an answer consists of its drafts
    if not broken and (usage := answer_usage(turn)) is not None:
        yield models_of(turn), usage
    # The draft of a handler contains the tokens of the uncounted parts that the upstream's server aborted.
    contained = {"abort"} if any(draft.why != "abort" for draft in turn.drafts) else ()
    for draft in turn.drafts:
        if (draft.counted or (broken and draft.why not in contained)) and (
            response := draft.response
        ) is not None:
            used = response.usage or estimate_usage(turn.request, response)
            yield _models(turn.request.model, draft.notes, response), used


def answer_usage(turn: Turn) -> Usage | None:
    """Return the tokens of a turn's answer, without its drafts; None if the turn has no answer.

    For a broken answer, return the tokens of the whole input and of the output that was received before the answer
    broke off.
    """
    response = turn.response
    if response is None:
        return None
    if turn.outcome == "answered":
        return response.usage or estimate_usage(turn.request, response)
    if not response.content and response.usage is None:
        return None
    about = estimate_usage(turn.request, response)
    if response.usage is None:
        return about
    output = max(response.usage.output_tokens, about.output_tokens if response.content else 0)
    return msgspec.structs.replace(response.usage, output_tokens=output)


def usage_of_all(usages: Iterable[Usage]) -> Usage:
    """Return the sum of all usages.

    A count that is None is ignored. If a count is None in all usages, its sum is None.
    """
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
    """Return the names of a turn's model, in the order in which prices are looked up (rule 3)."""
    return _models(turn.request.model, turn.notes, turn.response)


def _models(requested: str, notes: Mapping[str, Json], response: Response | None) -> tuple[str, ...]:
    note = notes.get(UPSTREAM)
    asked: str | None = note.get("model") if isinstance(note, dict) else None
    answered = response.model if response is not None else ""
    return (asked, answered, requested) if asked else (requested, answered)


def cost_of(turns: Iterable[Turn], prices: Mapping[str, Price]) -> float | None:
    """Return the cost of the turns; None if `prices` has no price for the model of a turn."""
    total = 0.0
    for turn in turns:
        for models, usage in _spent(turn):
            price = price_of(prices, models)
            if price is None:
                return None
            total += price.cost(usage)
    return total
