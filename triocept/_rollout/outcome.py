"""The four ways in which an exchange can end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .._canonical.response import Response
from .._trace.turn import OutcomeKind, TurnError
from ..errors import Refusal, UpstreamError

__all__ = ["Abandoned", "Answered", "Failed", "Outcome", "Refused", "error_of", "kind_of", "outcome_of"]


@dataclass(frozen=True)
class Answered:
    """The agent gets this response."""

    response: Response


@dataclass(frozen=True)
class Refused:
    """The agent gets this refusal."""

    refusal: Refusal


@dataclass(frozen=True)
class Failed:
    """The program failed; the agent gets a 500, and the program the exception."""

    error: BaseException


@dataclass(frozen=True)
class Abandoned:
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
        case Refused(refusal=refusal):
            return TurnError(type=type(refusal).__name__, message=refusal.message, status=refusal.status)
        case Failed(error=error):
            return TurnError(type=type(error).__name__, message=str(error), status=500)
        case Abandoned():
            return TurnError(type="ExchangeAbandoned", message="the agent hung up")


def outcome_of(exc: BaseException) -> Refused | Failed:
    """What an exception of whoever answers amounts to: a `Refusal` and an `UpstreamError` are answers."""
    match exc:
        case Refusal():
            return Refused(exc)
        case UpstreamError():
            retry_after = exc.headers.get("retry-after", "")
            status = exc.status if 400 <= exc.status <= 599 else 502
            seconds = float(retry_after) if retry_after.isdecimal() else None
            return Refused(Refusal(status, str(exc), retry_after=seconds))
        case _:
            return Failed(exc)
