"""The time limits of a call to a provider, and the pauses before retries.

A call has two limits: a limit for its whole duration, and a limit for the silence of the provider. A call is retried
only if no byte of its answer has arrived, and if a retry could succeed.

Rules:

1. A whole call has one cancel scope with one deadline. Each increment of the answer moves the deadline, but at most 50
   times within the limit of silence.
2. A silence ends only with an increment of the answer. Comments, pings and bytes without content count as silence.
3. The limit of silence runs only while the call waits for the provider. It does not run while the call waits for a
   slot, or for an agent that reads slowly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import final

import trio

from ..errors import ContextLengthError, UpstreamError

_PARTS = 50
FIRST_PAUSE = 0.5
"""Seconds before the first retry. Each further pause is twice as long, as in the SDKs of OpenAI and Anthropic."""
LONGEST_PAUSE = 60.0
"""Maximum seconds before a retry. If a provider requests a longer wait, the error is passed on to the agent."""

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 529})
_FINAL = ("insufficient_quota", "billing_error", "usage_limit_reached", "usage_not_included")


@final
class Patience:
    """The time limits of one call, in seconds: `total` for the call, `idle` for silence. None means no limit."""

    def __init__(self, total: float | None, idle: float | None) -> None:
        self._total, self._idle = total, inf if idle is None else idle
        self._end = inf if total is None else trio.current_time() + total
        self._slack = self._idle / _PARTS
        self._due = -inf  # the deadline is moved only from this time on
        self._paused = True
        self._held_at: float | None = None
        self._try: trio.CancelScope | None = None
        self.scope: trio.CancelScope = trio.CancelScope(deadline=self._end)
        self.on_stop: Callable[[], object] = int
        """Function that is called when the provider's answer is complete."""

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Limit the time until the body has received the head of the provider's response.

        After the body, limit the provider's silence.

        Raise an `UpstreamError` with 504 if no head has arrived within the limit of silence.
        """
        with trio.move_on_after(self._idle) as self._try:
            yield
        scope, self._try = self._try, None
        if scope.cancelled_caught:
            raise self._silence()
        self.pause(False)

    def reset(self) -> None:
        now = trio.current_time()
        if now >= self._due:
            self._due = now + self._slack
            self.scope.deadline = min(self._end, now + self._idle + self._slack)

    def pause(self, paused: bool) -> None:
        """Suspend the limit of silence if `paused` is True; start the limit again if `paused` is False.

        The limit must not run while the call waits for something other than the provider.
        """
        self._paused = paused
        if self._held_at is not None:
            return
        if paused:
            self._due, self.scope.deadline = inf, self._end
        else:
            self._due = -inf
            self.reset()

    def hold(self) -> None:
        """Suspend both time limits until `release` is called, because the server is paused."""
        if self._held_at is None:
            self._held_at = trio.current_time()
            self._due = self.scope.deadline = inf
            if self._try is not None:
                self._try.deadline = inf

    def release(self) -> None:
        """Let the time limits run again after `hold`. The silence is then counted again from zero."""
        if self._held_at is None:
            return
        now = trio.current_time()
        self._end += now - self._held_at
        self._held_at = None
        if self._try is not None:
            self._try.deadline = now + self._idle
        self.pause(self._paused)

    def stop(self) -> None:
        """Remove all time limits, because the provider's answer is complete. The work that follows has no limit."""
        self._end = self._idle = inf
        self.pause(True)
        self.on_stop()

    @property
    def error(self) -> UpstreamError:
        if trio.current_time() >= self._end:
            return UpstreamError(
                f"the provider's answer took longer than the limit of {self._total:g} s", status=504
            )
        return self._silence()

    def _silence(self) -> UpstreamError:
        return UpstreamError(f"the provider sent no part of its answer for {self._idle:g} s", status=504)


def retry_pause(error: UpstreamError, tries: int, most: int) -> float | None:
    """Return the seconds to wait before the next retry, after `tries` failed tries.

    Return None if the call must not be retried. `most` is the maximum number of retries.
    """
    advice = error.headers.get("x-should-retry")
    may_help = advice == "true"
    if advice not in ("true", "false"):
        is_final = isinstance(error, ContextLengthError) or error.code in _FINAL
        may_help = not is_final and error.status in _TRANSIENT
    if tries > most or not may_help:
        return None
    if (requested := wait_of(error)) is not None:
        return requested if requested <= LONGEST_PAUSE else None
    pause: float = min(FIRST_PAUSE * 2.0 ** (tries - 1), LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1)


def wait_of(error: UpstreamError) -> float | None:
    """Return the seconds to wait before a retry, as stated in the provider's headers.

    Return None if the headers state no time.
    """
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


def seconds_until(date: str) -> float | None:
    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
