"""Rules that no request can reach, since an earlier one takes all that they match.

Rules:

1. Only what is certain counts: of two patterns that are not the same, nothing is said.
2. A rule that is given up when its replies are given hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations

from .conditions import Conditions, is_of_model
from .rules import Rule


class ShadowedRule(ValueError):
    """A rule of a script that can never answer: an earlier one answers all that it matches, again and again."""


def check_shadows(rules: Iterable[tuple[str, Rule]]) -> None:
    """See whether each of these named rules can be reached.

    Raises:
        ShadowedRule: one cannot; the text has both places.
    """
    for (place, rule), (other_place, other) in combinations(rules, 2):
        if hidden(other, rule):
            raise ShadowedRule(
                f"{other_place}, is never reached: what stands before it answers all that it could, and never ends "
                f"({place}). What is more special goes first"
            )


def hidden(rule: Rule, before: Rule) -> bool:
    """Whether no request can reach `rule`, with `before` standing before it."""
    return before.endless and covers(before.conditions, rule.conditions)


def covers(wide: Conditions, narrow: Conditions) -> bool:
    """Whether, as far as can be said, every request that `narrow` matches matches `wide`, too."""
    return all(_follows(name, value, narrow) for name, value in wide.said())


def _follows(name: str, value: object, narrow: Conditions) -> bool:
    """Whether a condition follows from those of `narrow`."""
    other = getattr(narrow, name)
    if name == "tool_result" and value is True:
        return (other is not None and other is not False) or narrow.result_of is not None
    if other is None:
        return False
    return bool(value == other) or (name in _WIDER and _WIDER[name](value, other))


def _is_part(wide: object, narrow: object) -> bool:
    """A text that holds a part holds what is in the part."""
    return isinstance(wide, str) and isinstance(narrow, str) and wide in narrow


def _is_dated(wide: object, narrow: object) -> bool:
    return isinstance(wide, str) and isinstance(narrow, str) and is_of_model(wide, narrow)


_WIDER: dict[str, Callable[[object, object], bool]] = {
    "text": _is_part,
    "system": _is_part,
    "tool_result": _is_part,
    "model": _is_dated,
}
