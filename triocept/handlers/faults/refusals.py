"""Errors of a provider, by their status, in the dialect's own shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import TypeAlias

from ..._checks import check_count, described
from ..._rollout.exchange import Exchange
from ...dialects import OVERFLOW
from ...errors import Refusal

__all__ = ["RetryAfter", "context_length", "retry_date", "status", "words_of"]

RetryAfter: TypeAlias = float | datetime | timedelta | None

_WORDS = {529: "Overloaded"}  # Anthropic's own


def status(
    status: int,
    message: str | None = None,
    *,
    retry_after: RetryAfter = None,
    should_retry: bool | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Callable[[Exchange], Awaitable[None]]:
    """See `Fault.status`."""
    dated = retry_after if isinstance(retry_after, datetime | timedelta) else None
    seconds = None if isinstance(retry_after, datetime | timedelta) else retry_after
    if dated is not None:
        retry_date(dated)  # says what is wrong with it

    def refusal() -> Refusal:
        date = {"retry-after": retry_date(dated)} if dated is not None else {}
        return Refusal(
            status,
            words_of(status) if message is None else message,
            retry_after=seconds,
            should_retry=should_retry,
            code=code,
            headers={**(headers or {}), **date},
        )

    async def refuse(exchange: Exchange) -> None:
        given = refusal()
        await exchange.refuse(
            given.status,
            given.message,
            retry_after=given.retry_after,
            should_retry=given.should_retry,
            code=given.code,
            headers=given.headers,
        )

    refusal()
    return refuse


def context_length(tokens: int, most: int) -> Callable[[Exchange], Awaitable[None]]:
    """See `Fault.context_length`."""
    check_count("most", most, least=1)
    check_count("tokens", tokens)
    if tokens <= most:
        raise ValueError(f"tokens is more than most, {most}, not {tokens}: it would fit")
    return status(
        400, f"prompt is too long: {tokens} tokens > {most} maximum", code=OVERFLOW, should_retry=False
    )


def words_of(status: int) -> str:
    """What a status is called."""
    try:
        return _WORDS.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


def retry_date(when: datetime | timedelta) -> str:
    """A date as `Retry-After` has it (RFC 9110, 10.2.3).

    Raises:
        ValueError: it has no time zone, or it is in the past.
    """
    if isinstance(when, timedelta):
        if when < timedelta(0):
            raise ValueError(f"retry_after is no time in the past, not {described(when)}")
        when = datetime.now(UTC) + when
    if when.tzinfo is None:
        raise ValueError(f"retry_after is a date with a time zone, not {described(when)}")
    return format_datetime(when.astimezone(UTC), usegmt=True)
