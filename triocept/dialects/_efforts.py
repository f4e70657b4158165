"""Reasoning effort (words) and reasoning budget (tokens), each converted to the other.

The table is that of inspect_ai: minimal 2048, low 4096, medium 10000, high 16000, xhigh and max 32000.
"""

from __future__ import annotations

from .._canonical.request import ReasoningAsk

_BUDGETS = {"minimal": 2048, "low": 4096, "medium": 10_000, "high": 16_000, "xhigh": 32_000, "max": 32_000}


def effort_for(ask: ReasoningAsk | None) -> str | None:
    """Return the requested effort; None if the model may choose."""
    if ask is None or ask.effort == "adaptive":
        return None
    if ask.effort is not None or ask.budget_tokens is None:
        return ask.effort
    return next((effort for effort, budget in _BUDGETS.items() if ask.budget_tokens <= budget), "xhigh")


def budget_for(ask: ReasoningAsk | None) -> int | None:
    """Return the requested budget in tokens; None if thinking is off, or the model may choose."""
    if ask is None:
        return None
    return ask.budget_tokens if ask.budget_tokens is not None else _BUDGETS.get(ask.effort or "")
