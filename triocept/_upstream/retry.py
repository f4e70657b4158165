"""When a call that failed is tried again: before its first byte only, and only if that may help."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..errors import ContextLengthError, UpstreamError

__all__ = ["retry_pause", "seconds_until", "wait_of"]

FIRST_PAUSE = 0.5
"""Seconds; doubled each time. As the SDKs of OpenAI and Anthropic do."""
LONGEST_PAUSE = 60.0
"""Seconds. A provider that asks for more is not waited for: the agent is told, and decides."""

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 529})
_FINAL = ("insufficient_quota", "billing_error", "usage_limit_reached", "usage_not_included")


def retry_pause(error: UpstreamError, tries: int, most: int) -> float | None:
    """Seconds to wait after so many tries, the last of which failed so; None: no further try, of `most` of them."""
    if tries > most or not _may_help(error):
        return None
    asked = wait_of(error)
    if asked is not None:
        return asked if asked <= LONGEST_PAUSE else None
    pause: float = min(FIRST_PAUSE * 2.0 ** (tries - 1), LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1)


def wait_of(error: UpstreamError) -> float | None:
    """The seconds that a provider asks to wait, in any of its forms; None where it does not ask."""
    try:
        return max(0.0, float(error.headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    asked = error.headers.get("retry-after")
    if asked is None:
        return None
    try:
        return max(0.0, float(asked))
    except ValueError:
        return seconds_until(asked)


def _may_help(error: UpstreamError) -> bool:
    told = error.headers.get("x-should-retry")
    if told in ("true", "false"):
        return told == "true"
    if isinstance(error, ContextLengthError) or error.code in _FINAL:
        return False
    return error.status in _TRANSIENT


def seconds_until(date: str) -> float | None:
    """How long it is until a date, as HTTP has it; None: it is none."""
    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
