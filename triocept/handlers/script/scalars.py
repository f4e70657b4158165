"""Generate numbers and texts within the bounds that a JSON Schema sets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction

from ..._canonical.content import Json

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    **dict.fromkeys(("email", "idn-email"), "user@example.com"),
    **dict.fromkeys(("hostname", "idn-hostname"), "example.com"),
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    **dict.fromkeys(("uri", "uri-reference", "url", "iri", "iri-reference"), "https://example.com/"),
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json-pointer": "/a",
    "regex": "a",
}
"""A fixed value for each format. The names and addresses in these values are reserved for examples (RFC 2606, 5737,
3849)."""


def admits(schema: Json, value: Json) -> bool:
    """Return True if `value` is within the bounds of `schema`, or if it is neither a number nor a text."""
    if isinstance(value, str):
        most = schema.get("maxLength")
        length = (schema.get("minLength") or 0) <= len(value) and (most is None or len(value) <= most)
        return length and _fits(schema.get("pattern"), value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    least, above = _bound(schema, "minimum", "exclusiveMinimum", -math.inf, max)
    most, below = _bound(schema, "maximum", "exclusiveMaximum", math.inf, min)
    step = schema.get("multipleOf")
    return _is_between(value, least, above, most, below) and (not step or value % step == 0)


def _is_between(number: float, least: float, above: bool, most: float, below: bool) -> bool:
    return (number > least if above else number >= least) and (number < most if below else number <= most)


def number_for(schema: Json, variant: int, *, whole: bool) -> Json:
    """Return a number within the bounds of `schema`: 0 if it is allowed, otherwise the nearest allowed number.

    Raises:
        ValueError: no number is allowed.
    """
    least, above = _bound(schema, "minimum", "exclusiveMinimum", -math.inf, max)
    most, below = _bound(schema, "maximum", "exclusiveMaximum", math.inf, min)
    step = schema.get("multipleOf") or (1 if whole else None)
    if step is not None:
        # A whole number is a multiple of a fraction only if it is a multiple of the fraction's numerator.
        whole_step = Fraction(str(step)).numerator
        return _multiple(whole_step if whole else step, least, above, most, below, variant)
    bounds = filter(math.isfinite, (least, least + 1 + variant, most, most - 1 - variant))
    for number in (variant, *bounds, (least + most) / 2):
        if _is_between(number, least, above, most, below):
            return number
    raise ValueError(f"no number is between {least} and {most}")


def _bound(schema: Json, name: str, exclusive: str, none: float, strictest: Json) -> tuple[float, bool]:
    """Return the stricter of two bounds of `schema`; and True if a value must not equal this bound, otherwise False.

    `name` and `exclusive` are the keywords of the two bounds. `none` is returned if the schema has neither bound. In
    old JSON Schema drafts, the value of `exclusive` is a boolean, which excludes the bound `name`.
    """
    value, outside = schema.get(name), schema.get(exclusive)
    if isinstance(outside, bool) or outside is None:
        return (none if value is None else value), bool(outside)
    if value is None or strictest(value, outside) == outside:
        return outside, True
    return value, False


def _multiple(step: float, least: float, above: bool, most: float, below: bool, variant: int) -> Json:
    first = 0 if least < 0 < most or (least == 0 and not above) or (most == 0 and not below) else None
    if first is None:
        first = math.ceil(least / step) if least >= 0 else math.floor(most / step)
        first += 1 if least >= 0 and above and first * step == least else 0
        first -= 1 if least < 0 and below and first * step == most else 0
    for number in ((first + variant) * step, (first - variant) * step, first * step):
        if _is_between(number, least, above, most, below):
            return number
    raise ValueError(f"no multiple of {step} is between {least} and {most}")


def text_for(schema: Json, name: str, variant: int) -> str:
    """Return a text within the bounds of `schema`.

    If `name`, the property's name, is within these bounds, return `name`.

    Raises:
        ValueError: no fitting text was found.
    """
    least, most = schema.get("minLength") or 0, schema.get("maxLength")
    plain = (name if not variant else f"{name} {variant + 1}").ljust(least, ".")
    if most is not None and len(plain) > most:
        number = str(variant) if variant else ""
        plain = (plain[: max(most - len(number), 0)] + number)[:most]
    pattern = schema.get("pattern")
    sample = _FORMATS.get(schema.get("format", ""))
    guesses = [sample] if sample is not None else [plain]
    if pattern is not None:
        guesses += _guesses(least, most)
    for guess in guesses:
        if len(guess) >= least and (most is None or len(guess) <= most) and _fits(pattern, guess):
            return guess
    raise ValueError(
        "cannot generate a text that fits the schema: set the field, as in AskedJSON(name=value)"
    )


def _fits(pattern: str | None, text: str) -> bool:
    try:
        return pattern is None or re.search(pattern, text) is not None
    except re.error:  # syntax of another regular expression language
        return False


def _guesses(least: int, most: int | None) -> Iterator[str]:
    yield from _FORMATS.values()
    yield from ("+1 202 555 0100", "+12025550100", "1.0.0", "#000000", "en", "en-US", "USD")
    yield from ("A1", "a-b", "a_b", "A-1")
    for size in range(max(least, 1), min(most or 40, 40) + 1):
        yield from (letter * size for letter in "a0A")
