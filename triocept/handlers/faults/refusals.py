"""Errors of a provider, by their status, in the dialect's own shape."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Self, TypeAlias

from ..._rollout.exchange import Exchange, core_of
from ..._util.checks import check_count, described
from ...dialects.kit import OVERFLOW
from ...errors import Refusal
from .base import Act, BaseFault

RetryAfter: TypeAlias = float | datetime | timedelta | None

_WORDS = {529: "Overloaded"}  # Anthropic's own


class Refusals(BaseFault):
    """Errors of a provider."""

    __slots__ = ()

    @classmethod
    def status(
        cls,
        status: int,
        message: str | None = None,
        *,
        retry_after: RetryAfter = None,
        should_retry: bool | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return an error of this status in the agent's dialect: `Fault.status(429, retry_after=1)`.

        Args:
            status: 400 to 599.
            message: the error text for the agent; None: the name of the status.
            retry_after: seconds; or a date (an aware `datetime`), or its distance from now (a `timedelta`). With a
                date, the header holds a date, which HTTP allows, too.
            should_retry, code, headers: as in `exchange.refuse`.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        more = {"should_retry": should_retry, "code": code, "headers": headers}
        given = {"status": status, "message": message, "retry_after": retry_after, **more}
        return cls("status", given, _refusing(status, message, retry_after, **more))

    @classmethod
    def context_length(cls, tokens: int = 200_001, most: int = 200_000) -> Self:
        """Return 400: the prompt has `tokens` tokens, more than the maximum `most`; agents recognise the wording."""
        check_count("most", most, least=1)
        check_count("tokens", tokens)
        if tokens <= most:
            raise ValueError(f"tokens is more than most, {most}, not {tokens}: it would fit")
        words = f"prompt is too long: {tokens} tokens > {most} maximum"
        act = _refusing(400, words, None, code=OVERFLOW, should_retry=False)
        return cls("context_length", {"tokens": tokens, "most": most}, act)

    @classmethod
    def too_large(cls) -> Self:
        """Return 413: the request is too large."""
        return cls("too_large", {}, _refusing(413, None, None))


def _refusing(status: int, message: str | None, retry_after: RetryAfter, **more: Any) -> Act:
    words = words_of(status) if message is None else message

    def refusal() -> Refusal:  # made anew for each call: the date may be relative to now
        headers = {**(more.get("headers") or {}), **retry_header(retry_after, seconds=False)}
        seconds = None if isinstance(retry_after, datetime | timedelta) else retry_after
        return Refusal(status, words, retry_after=seconds, **{**more, "headers": headers})

    async def refuse(exchange: Exchange) -> None:
        await core_of(exchange).refuse(refusal())

    refusal()
    return refuse


def words_of(status: int) -> str:
    """Return the name of a status."""
    try:
        return _WORDS.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


def retry_header(when: RetryAfter, *, seconds: bool = True) -> dict[str, str]:
    """Return the `Retry-After` header (RFC 9110, 10.2.3): a date, or a number where one is required here.

    Raises:
        ValueError: the date has no time zone, or is in the past.
    """
    match when:
        case None:
            return {}
        case timedelta():
            if when < timedelta(0):
                raise ValueError(f"retry_after is no time in the past, not {described(when)}")
            when = datetime.now(UTC) + when
        case datetime():
            if when.tzinfo is None:
                raise ValueError(f"retry_after is a date with a time zone, not {described(when)}")
        case _:
            return {"retry-after": f"{when:g}"} if seconds else {}
    return {"retry-after": format_datetime(when.astimezone(UTC), usegmt=True)}
