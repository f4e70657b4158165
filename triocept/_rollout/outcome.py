"""The four ways in which an exchange can end."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from .._canonical.response import Response
from .._trace.turn import OutcomeKind, TurnError
from ..errors import ContextLengthError, Refusal, UpstreamError, can_be_sent

__all__ = ["Abandoned", "Answered", "Failed", "Outcome", "Refused", "error_of", "kind_of", "outcome_of"]


class Answered(msgspec.Struct, frozen=True):
    """The agent gets this response."""

    response: Response
    document: bytes | None = None
    """The provider's own, in the agent's dialect: for a connection that asked for the whole."""


class Refused(msgspec.Struct, frozen=True):
    """The agent gets this refusal."""

    refusal: Refusal
    cause: UpstreamError | None = None
    """The provider's failure that it tells of."""
    document: bytes | None = None
    """The provider's own words for it, in the agent's dialect."""


class Failed(msgspec.Struct, frozen=True):
    """The program failed; the agent gets a 500, and the program the exception."""

    error: BaseException


class Abandoned(msgspec.Struct, frozen=True):
    """The agent hung up."""


Outcome: TypeAlias = Answered | Refused | Failed | Abandoned


def kind_of(outcome: Outcome) -> OutcomeKind:
    """The word that a turn has for it."""
    match outcome:
        case Answered():
            return "answered"
        case Refused():
            return "refused"
        case Failed():
            return "failed"
        case Abandoned():
            return "abandoned"


def error_of(outcome: Outcome) -> TurnError | None:
    """Why it was not answered; None if it was."""
    match outcome:
        case Answered():
            return None
        case Refused(cause=UpstreamError() as cause, refusal=refusal):
            return TurnError(type=type(cause).__name__, message=str(cause), status=refusal.status)
        case Refused(refusal=refusal):
            return TurnError(type=type(refusal).__name__, message=refusal.message, status=refusal.status)
        case Failed(error=error):
            return TurnError(type=type(error).__name__, message=str(error), status=500)
        case Abandoned():
            return TurnError(type="ExchangeAbandoned", message="the agent hung up")


def outcome_of(exc: BaseException, dialect: str) -> Refused | Failed:
    """What an exception of whoever answers amounts to: a `Refusal` and an `UpstreamError` are answers.

    Args:
        exc: the exception.
        dialect: what the agent speaks: a provider's own words reach it only if they are the same dialect's.
    """
    match exc:
        case Refusal():
            return Refused(exc)
        case UpstreamError():
            return _refused_by(exc, dialect)
        case _:
            return Failed(exc)


def _refused_by(exc: UpstreamError, dialect: str) -> Refused:
    overflow = isinstance(exc, ContextLengthError)
    own = _family(exc.dialect) == _family(dialect)
    refusal = Refusal(
        400 if overflow else exc.status if 400 <= exc.status <= 599 else 502,
        exc.message,
        retry_after=_seconds(exc.headers.get("retry-after", "")),
        should_retry=False if overflow else None,
        code="context_length_exceeded" if overflow else exc.code if own else None,
        headers={
            name: value
            for name, value in exc.headers.items()
            if can_be_sent(name, value) and name not in _NOT_PASSED
        },
    )
    # An overflow is told in words that make every agent compact its history, not in the provider's.
    return Refused(refusal, exc, exc.body.encode() if own and exc.body and not overflow else None)


_NOT_PASSED = frozenset({"set-cookie"})
"""Headers of the provider that are none of the agent's business."""


def _family(dialect: str) -> str:
    """Dialects of one family have the same errors: all of OpenAI's do."""
    return dialect.partition("_")[0]


def _seconds(retry_after: str) -> float | None:
    try:
        seconds = float(retry_after)
    except ValueError:  # a date: it is passed on as a header
        return None
    return seconds if 0 <= seconds < 1e6 else None
