"""Placeholders for values in an assertion, such as `containing`, and a function that compares values with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, final


@final
class containing:  # noqa: N801 - the name reads as a value
    """Placeholder that is equal to any text in which a given text occurs: `containing("weather")`.

    Args:
        text: the substring.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._text in other

    __hash__: None = None  # type: ignore[assignment]  # it is equal to texts of many hashes

    def __repr__(self) -> str:
        return f"containing({self._text!r})"


def matches(expected: Any, value: Any) -> bool:
    """Return True if `value` equals `expected`, or if `expected` is a pattern that is found in `value`.

    Compare nested values, too.

    Objects with their own `__eq__` (`unittest.mock.ANY`, `containing`, `pytest.approx`) are compared by that method.
    """
    if isinstance(expected, re.Pattern):
        return isinstance(value, str) and expected.search(value) is not None
    if isinstance(expected, Mapping) and isinstance(value, Mapping):
        return expected.keys() == value.keys() and all(matches(expected[key], value[key]) for key in expected)
    if _is_list(expected) and _is_list(value):
        return len(expected) == len(value) and all(map(matches, expected, value))
    return bool(expected == value)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
