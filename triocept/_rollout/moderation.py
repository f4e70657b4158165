"""Moderate an agent's texts by a function of the program. Without a function, no text is flagged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

import trio

from .._canonical.verdict import CATEGORIES, FLAGGED, Verdict
from .._util.checks import check_number, described
from .functions import awaited, check_function

Found: TypeAlias = bool | str | Iterable[str] | Mapping[str, float] | None
"""Findings for one text: True if the text is flagged, the categories in which it is flagged, or a score for each
category (the text is flagged if a score is at least 0.5). False and None mean that the text is not flagged."""

Moderate: TypeAlias = Callable[[Sequence[str]], Awaitable[Iterable[Found]] | Iterable[Found]]
"""A function `(texts) -> findings`, async or not, that returns the findings for each text."""

_FORM = "a function of the texts, async or not, that returns the findings for each text"


def check_moderate(function: object) -> None:
    check_function("moderate", function, _FORM)


async def moderate(function: Moderate | None, texts: Sequence[str]) -> Sequence[Verdict]:
    """Return the moderation result of each text. Without a function, no text is flagged.

    Raises:
        TypeError, ValueError: the function returned an invalid result; the error's text describes the result.
        BaseException: the function's own exception.

    Cancellation: cancels the function.
    """
    if function is None:
        await trio.lowlevel.checkpoint()
        return [Verdict() for _ in texts]
    given: Any = await awaited(function(texts))
    if not isinstance(given, Iterable) or isinstance(given, (str, Mapping)):
        raise TypeError(f"moderate must be {_FORM}; it returned {described(given)}")
    verdicts = [_verdict(found) for found in given]
    if len(verdicts) != len(texts):
        text = (
            f"moderate must return findings for each text, {len(texts)} in all; it returned {len(verdicts)}"
        )
        raise ValueError(text)
    return verdicts


def _verdict(found: Any) -> Verdict:
    if found is None or isinstance(found, bool):
        return Verdict(flagged=bool(found))
    if isinstance(found, str):
        found = (found,)
    if not isinstance(found, Iterable):
        text = f"for each text, moderate must return a bool, categories, or scores by category, not {described(found)}"
        raise TypeError(text)
    scores = dict(found) if isinstance(found, Mapping) else dict.fromkeys(found, 1.0)
    for category, score in scores.items():
        if category not in CATEGORIES:
            near = get_close_matches(str(category), CATEGORIES, 1) or CATEGORIES
            raise ValueError(
                f"moderate returned the unknown category {category!r}; did you mean {' or '.join(near)}?"
            )
        check_number(f"the score of {category!r}", score)
    return Verdict(flagged=any(score >= FLAGGED for score in scores.values()), scores=scores)
