"""Find rules that no request can reach, because an earlier rule always answers the requests that they match.

Rules:

1. A rule is reported only if it is certain that no request can reach it. Two different patterns are never compared.
2. A rule whose replies can be used up never makes a later rule unreachable.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from .conditions import Conditions, is_of_model
from .rules import Rule


class ShadowedRule(ValueError):
    """Error: a rule of a script can never answer, because an earlier rule always answers its requests."""

    __module__ = "triocept.handlers"  # the public place, shown in tracebacks


def check_shadows(rules: Iterable[tuple[str, Rule]]) -> None:
    """Check that each of `rules`, which are pairs of a name and a rule, can answer a request.

    Raises:
        ShadowedRule: a rule can never answer a request. The error's text names the places of this rule and of the
            earlier rule.
    """
    for (place, rule), (other_place, other) in combinations(rules, 2):
        if hidden(other, rule):
            raise ShadowedRule(
                f"a rule ({other_place}) is never used, because an earlier rule ({place}) always answers all of its "
                "requests. Put the more specific rule first"
            )


def hidden(rule: Rule, before: Rule) -> bool:
    """Return True if no request can reach `rule` because `before`, an earlier rule, answers all its requests."""
    return before.endless and covers(before.conditions, rule.conditions)


def covers(wide: Conditions, narrow: Conditions) -> bool:
    """Return True if the conditions `wide` certainly match every request that the conditions `narrow` match."""
    for name, value in wide.given():
        other = getattr(narrow, name)
        if name == "tool_result" and value is True:
            implied = other not in (None, False) or narrow.result_of is not None
        elif isinstance(value, str) and isinstance(other, str) and name == "model":
            implied = is_of_model(value, other)
        elif isinstance(value, str) and isinstance(other, str) and name in ("text", "system", "tool_result"):
            implied = value in other
        else:
            implied = other is not None and bool(value == other)
        if not implied:
            return False
    return True
