"""The four ways in which an exchange can end, and who is told what of it.

Raw bytes are an answer where somebody knows what they say, and else a refusal.

An exchange is settled by whoever answers it, or from outside: by its agent's hang-up, or by its end: of its rollout
(`stop`, or its block was left), of its rollout's parent, of its endpoint. A fault of another handler of its rollout is
as its end, for whoever is at work on it. What whoever answers does next, and what that is:

=============================  ====================  =============================  =============================
it does next                   settled by itself     by a hang-up                   by the end
=============================  ====================  =============================  =============================
waits                          goes on               a handler is cancelled         a handler is cancelled
respond, refuse                `AlreadySettled`      `ExchangeAbandoned`            nothing, and nothing is done
stream.send                    `AlreadySettled`      `ExchangeAbandoned`            the block of the stream ends
returns, or is cancelled       no fault              no fault                       no fault
a handler raises a `Refusal`,  a fault, if it was    no fault                       no fault
`UpstreamError`, or one of     not that which
the errors above               settled it
a handler raises any other     a fault               a fault                        a fault
=============================  ====================  =============================  =============================

A fault of a handler goes to its rollout's owner, always: whatever else ends at that moment. A loop's exceptions are
those of the body that it stands in. A group counts as what is in it. The handler that has itself asked for the end is
not cancelled. Tests walk every cell: `tests/rollout/test_outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol, TypeAlias

import msgspec

from .._canonical.response import Response
from .._trace.raw import RawResponse
from .._trace.turn import OutcomeKind, TurnError
from .._util.unicode import mended_text
from ..errors import ContextLengthError, ExchangeError, Refusal, RolloutClosed, UpstreamError, can_be_sent

_TOO_LATE = (Refusal, UpstreamError, ExchangeError, RolloutClosed)
"""What is no fault where the exchange was settled from outside."""


class Answered(msgspec.Struct, frozen=True):
    """The agent gets this response."""

    kind: ClassVar[OutcomeKind] = "answered"
    """The word that a turn has for it."""
    why: ClassVar[None] = None
    """Why it was not answered; None: it was."""

    response: Response
    document: bytes | None = None
    """The provider's own, in the agent's dialect: for a connection that asked for the whole."""


class Refused(msgspec.Struct, frozen=True):
    """The agent gets this refusal."""

    kind: ClassVar[OutcomeKind] = "refused"

    refusal: Refusal
    cause: UpstreamError | None = None
    """The provider's failure that it tells of."""
    document: bytes | None = None
    """The provider's own words for it, in the agent's dialect."""

    @property
    def why(self) -> TurnError:
        refusal, cause = self.refusal, self.cause
        if cause is not None:
            return TurnError(type=type(cause).__name__, message=str(cause), status=refusal.status)
        return TurnError(type=type(refusal).__name__, message=refusal.message, status=refusal.status)


class Raw(msgspec.Struct, frozen=True):
    """The agent gets raw bytes."""

    sent: RawResponse
    response: Response | None = None
    """What they say, or begin to say, where somebody knows."""
    complete: bool = False
    """Whether they are an answer all the same, and `response` is what it says."""

    @property
    def kind(self) -> OutcomeKind:
        return "answered" if self.complete else "refused"

    @property
    def why(self) -> TurnError | None:
        sent = self.sent
        return None if self.complete else TurnError(type="RawResponse", message=str(sent), status=sent.status)


class Failed(msgspec.Struct, frozen=True):
    """The program failed; the agent gets a 500, and the program the exception."""

    kind: ClassVar[OutcomeKind] = "failed"

    error: BaseException

    @property
    def why(self) -> TurnError:
        return TurnError(type=type(self.error).__name__, message=mended_text(str(self.error)), status=500)


class Abandoned(msgspec.Struct, frozen=True):
    """The agent hung up."""

    kind: ClassVar[OutcomeKind] = "abandoned"
    why: ClassVar[TurnError] = TurnError(type="ExchangeAbandoned", message="the agent hung up")


Outcome: TypeAlias = Answered | Refused | Raw | Failed | Abandoned


def words_of_fault(error: BaseException) -> str:
    """What whoever asked is told of a fault: no more of it than its kind."""
    return f"the program that answers failed ({type(error).__name__})"


def refused_after(fault: BaseException) -> Refused:
    """What those calls get that nobody answers because of a fault: the status of the one in which it came up, and no
    invitation to try again. A new one for each, for a traceback grows with every raise."""
    return Refused(Refusal(500, words_of_fault(fault), should_retry=False))


def outcome_of(exc: BaseException, dialect: str) -> Refused | Failed:
    """What an exception of whoever answers amounts to: a `Refusal` and an `UpstreamError` are answers.

    Args:
        exc: the exception.
        dialect: what the agent speaks: a provider's own words reach it only if they are the same dialect's.
    """
    match _answer_in(exc):
        case Refusal() as refusal:
            return Refused(refusal)
        case UpstreamError() as error:
            return _refused_by(error, dialect)
        case _:
            return Failed(exc)


class Judged(Protocol):
    """An exchange whose handler has raised something."""

    @property
    def settled(self) -> bool: ...
    @property
    def from_outside(self) -> bool: ...
    @property
    def cause(self) -> BaseException | None: ...


def judge(error: BaseException, exchange: Judged) -> tuple[BaseException | None, BaseException | None]:
    """What a handler's exception (no cancellation) is, by the table above: an answer, a fault, or neither."""
    if exchange.from_outside:
        return None, _split(error, lambda exc: isinstance(exc, _TOO_LATE))[1]
    if not exchange.settled:
        answer = _answer_in(error)
        return answer, None if answer else error
    cause = exchange.cause  # a stream was left by it, and it goes on its way
    if cause is None or _answer_in(cause) is None:
        return None, error
    known = {id(exc) for exc in _leaves(cause)}
    return cause, _split(error, lambda exc: id(exc) in known)[1]


def _answer_in(exc: BaseException) -> Refusal | UpstreamError | None:
    """The answer that an exception is, or the first of a group of nothing but answers: nurseries make groups."""
    while isinstance(exc, BaseExceptionGroup):
        if exc.split((Refusal, UpstreamError))[1] is not None:
            return None
        exc = exc.exceptions[0]
    return exc if isinstance(exc, Refusal | UpstreamError) else None


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """An exception, or those in a group: groups are made anew on their way, these are not."""
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _leaves(each)
    else:
        yield exc


def _split(
    exc: BaseException, matches: Callable[[BaseException], bool]
) -> tuple[BaseException | None, BaseException | None]:
    """What of an exception, or of a group, matches, and the rest."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(matches)
    return (exc, None) if matches(exc) else (None, exc)


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
