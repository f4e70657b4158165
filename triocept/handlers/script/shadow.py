"""Rules that no request can reach, since an earlier rule takes all their requests.

Rules:

1. Only certain cases are reported: two different patterns are never compared.
2. A rule whose replies run out hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations

from .conditions import Conditions, is_of_model
from .rules import Rule


class ShadowedRule(ValueError):
    """A rule of a script can never answer, since an earlier rule always answers all its requests."""


def check_shadows(rules: Iterable[tuple[str, Rule]]) -> None:
    """Raise if one of these named rules cannot be reached.

    Raises:
        ShadowedRule: a rule cannot be reached; the text names both places.
    """
    for (place, rule), (other_place, other) in combinations(rules, 2):
        if hidden(other, rule):
            raise ShadowedRule(
                f"{other_place}, is never reached: what stands before it answers all that it could, and never ends "
                f"({place}). What is more special goes first"
            )


def hidden(rule: Rule, before: Rule) -> bool:
    """Return True if no request can reach `rule` after `before`."""
    return before.endless and covers(before.conditions, rule.conditions)


def covers(wide: Conditions, narrow: Conditions) -> bool:
    """Return True if every request that `narrow` matches certainly matches `wide`, too."""
    return all(_follows(name, value, narrow) for name, value in wide.said())


def _follows(name: str, value: object, narrow: Conditions) -> bool:
    """Return True if the conditions of `narrow` imply this condition."""
    other = getattr(narrow, name)
    if name == "tool_result" and value is True:
        return (other is not None and other is not False) or narrow.result_of is not None
    if other is None:
        return False
    return bool(value == other) or (name in _WIDER and _WIDER[name](value, other))


def _is_part(wide: object, narrow: object) -> bool:
    """Return True if `wide` is part of `narrow`: then each text that contains `narrow` contains `wide`."""
    return isinstance(wide, str) and isinstance(narrow, str) and wide in narrow


def _is_dated(wide: object, narrow: object) -> bool:
    return isinstance(wide, str) and isinstance(narrow, str) and is_of_model(wide, narrow)


_WIDER: dict[str, Callable[[object, object], bool]] = {
    "text": _is_part,
    "system": _is_part,
    "tool_result": _is_part,
    "model": _is_dated,
}
