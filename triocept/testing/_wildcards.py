"""What an assert may say of a value in the place of the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, final


@final
class containing:  # noqa: N801 - it is written where a value stands
    """Equal to any text that has this in it: `containing("weather")`.

    Args:
        text: what it has in it.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._text in other

    __hash__: None = None  # type: ignore[assignment]  # it is equal to texts of many hashes

    def __repr__(self) -> str:
        return f"containing({self._text!r})"


def matches(expected: Any, value: Any) -> bool:
    """Whether a value is what is expected: equal to it; a pattern is found in it; within mappings and lists likewise.

    What has an equality of its own (`unittest.mock.ANY`, `containing`, `pytest.approx`) is asked.
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
