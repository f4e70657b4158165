"""How long a provider is waited for: one deadline for the whole call, and one for its silence. And when it is asked
once more: before the first byte only, and only if that may help.

Rules:

1. One scope with one deadline serves a whole call. It is moved when something was heard, but not for each event: by a
   fiftieth of its time at most once.
2. Only an increment of the answer is heard. Comments, pings and bytes that say nothing are silence.
3. Nobody loses patience with a provider while it is something else that is waited for: a slot, or an agent that reads
   slowly.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import final

import trio

from ..errors import ContextLengthError, UpstreamError

_PARTS = 50
FIRST_PAUSE = 0.5
"""Seconds; doubled each time. As the SDKs of OpenAI and Anthropic do."""
LONGEST_PAUSE = 60.0
"""Seconds. A provider that asks for more is not waited for: the agent is told, and decides."""

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 529})
_FINAL = ("insufficient_quota", "billing_error", "usage_limit_reached", "usage_not_included")


@final
class Patience:
    """The time limits of one call.

    Args:
        total: seconds for all of it; None: for ever.
        idle: seconds without an increment; None: for ever.
    """

    def __init__(self, total: float | None, idle: float | None) -> None:
        self._total, self._idle = total, inf if idle is None else idle
        self._end = inf if total is None else trio.current_time() + total
        self._slack = self._idle / _PARTS
        self._due = -inf  # when the deadline is worth moving
        self.scope = trio.CancelScope(deadline=self._end)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """One try, up to the head of the answer; behind it the wait for the first increment begins.

        Raises:
            UpstreamError: 504, no head has come in the time that a silence may last.
        """
        with trio.move_on_after(self._idle) as scope:
            yield
        if scope.cancelled_caught:
            raise self._silence()
        self.pause(False)

    def heard(self) -> None:
        """An increment has come."""
        now = trio.current_time()
        if now >= self._due:
            self._due = now + self._slack
            self.scope.deadline = min(self._end, now + self._idle + self._slack)

    def pause(self, paused: bool) -> None:
        """It is something else that is waited for from here on; or it is the provider again."""
        if paused:
            self._due, self.scope.deadline = inf, self._end
        else:
            self._due = -inf
            self.heard()

    def stop(self) -> None:
        """The provider has said all: what is left to do takes as long as it takes."""
        self._end = self._idle = inf
        self.pause(True)

    @property
    def error(self) -> UpstreamError:
        """What the call failed of, when the deadline has passed."""
        if trio.current_time() >= self._end:
            return UpstreamError(f"the provider's answer took over {self._total:g} s", status=504)
        return self._silence()

    def _silence(self) -> UpstreamError:
        return UpstreamError(f"the provider said nothing of its answer for {self._idle:g} s", status=504)


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
