"""The outcomes of an exchange, and the errors that the answering code and the program get.

Raw bytes are an answer if their content is known, and otherwise a refusal.

An exchange is settled by the code that answers it, or from outside: by the disconnect of its agent, or by an end. In
this module, an end is the end of the exchange's rollout (`stop` was called, or the rollout's block has ended), of the
rollout's parent, or of the endpoint. A fault of another handler of the rollout also counts as an end. The table lists
operations of the answering code on an exchange that is already settled, and the effect of each operation:

=============================  ====================  =============================  =============================
next operation                 settled by itself     by a disconnect                by the end
=============================  ====================  =============================  =============================
waits                          continues             a handler is cancelled         a handler is cancelled
respond, refuse                `AlreadySettled`      `ExchangeAbandoned`            no error and no effect
stream.send                    `AlreadySettled`      `ExchangeAbandoned`            the block of the stream ends
returns, or is cancelled       no fault              no fault                       no fault
a handler raises a `Refusal`,  a fault, unless the   no fault                       no fault
`UpstreamError`, or one of     error has settled
the errors above               the exchange
a handler raises any other     a fault               a fault                        a fault
=============================  ====================  =============================  =============================

A fault of a handler is always raised to the code that opened the handler's rollout, even if the rollout ends at the
same moment. Exceptions in a loop over exchanges are exceptions of the `async with` body that contains the loop. An
exception group is treated like the exceptions in it. A handler that has itself ended its rollout is not cancelled.
Tests cover every cell: `tests/rollout/test_outcomes.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import msgspec

from .._canonical.response import Response
from .._trace.raw import RawResponse
from .._trace.turn import OutcomeKind, TurnError
from .._util.failures import leaves
from .._util.unicode import mended_text
from ..errors import (
    ContextLengthError,
    ExchangeError,
    Refusal,
    RolloutClosed,
    ScriptExhausted,
    UpstreamError,
    can_be_sent,
)

if TYPE_CHECKING:
    from .exchange_state import ExchangeState

TOO_LATE = (Refusal, UpstreamError, ExchangeError, RolloutClosed)
"""Errors that are not a fault of the handler if the exchange was settled from outside."""


class Answered(msgspec.Struct, frozen=True):
    """Outcome of an exchange: the agent gets a response."""

    kind: ClassVar[OutcomeKind] = "answered"
    """Name of the outcome in a turn."""
    why: ClassVar[None] = None
    """None in place of a reason for a missing answer, because the exchange was answered."""

    response: Response
    document: bytes | None = None
    """The provider's own JSON body, in the agent's dialect. It is sent unchanged if the agent did not request a
    stream."""


class Refused(msgspec.Struct, frozen=True):
    """Outcome of an exchange: the agent gets a refusal (an HTTP error)."""

    kind: ClassVar[OutcomeKind] = "refused"

    refusal: Refusal
    cause: UpstreamError | None = None
    """The provider's failure that caused the refusal."""
    document: bytes | None = None
    """The provider's own error body, in the agent's dialect. None if the provider has sent no such body."""

    @property
    def why(self) -> TurnError:
        refusal, cause = self.refusal, self.cause
        if cause is not None:
            return TurnError(type=type(cause).__name__, message=str(cause), status=refusal.status)
        return TurnError(type=type(refusal).__name__, message=refusal.message, status=refusal.status)


class Raw(msgspec.Struct, frozen=True):
    """Outcome of an exchange: the agent gets raw bytes."""

    sent: RawResponse
    response: Response | None = None
    """The content of the bytes, or of a part at their beginning; None if the content is unknown."""
    complete: bool = False
    """True if the bytes are a complete answer, whose content is `response`."""

    @property
    def kind(self) -> OutcomeKind:
        return "answered" if self.complete else "refused"

    @property
    def why(self) -> TurnError | None:
        sent = self.sent
        return None if self.complete else TurnError(type="RawResponse", message=str(sent), status=sent.status)


class Failed(msgspec.Struct, frozen=True):
    """Outcome of an exchange: the answering code raised `error`.

    The agent gets a 500, the program gets the exception.
    """

    kind: ClassVar[OutcomeKind] = "failed"

    error: BaseException

    @property
    def why(self) -> TurnError:
        return TurnError(type=type(self.error).__name__, message=mended_text(str(self.error)), status=500)


class Abandoned(msgspec.Struct, frozen=True):
    """Outcome of an exchange: the agent has disconnected."""

    kind: ClassVar[OutcomeKind] = "abandoned"
    why: ClassVar[TurnError] = TurnError(type="ExchangeAbandoned", message="the agent has disconnected")


Outcome: TypeAlias = Answered | Refused | Raw | Failed | Abandoned


def words_of_fault(error: BaseException) -> str:
    """Return the error text that the agent gets after a fault.

    The text names only the error's type, because the error's message may contain secrets.
    """
    if isinstance(error, ScriptExhausted):
        return "triocept: no reply is left for this call"
    return f"the program that answers this call failed ({type(error).__name__})"


def refused_after(fault: BaseException) -> Refused:
    """Return the outcome of a call that is not answered because of a fault: a 500 that forbids a retry.

    Each call needs a new `Refusal`, because the traceback of an exception grows with every raise.
    """
    return Refused(Refusal(500, words_of_fault(fault), should_retry=False))


def outcome_of(exc: BaseException, dialect: str) -> Refused | Failed:
    """Return the outcome of an exchange whose answering code has raised `exc`.

    Args:
        exc: the exception.
        dialect: the agent's dialect. A provider's own error body is sent to the agent only if the provider's dialect is
            of the same family.
    """
    match _answer_in(exc):
        case Refusal() as refusal:
            return Refused(refusal)
        case UpstreamError() as error:
            return _refused_by(error, dialect)
        case _:
            return Failed(exc)


def judge(error: BaseException, exchange: ExchangeState) -> tuple[BaseException | None, BaseException | None]:
    """Split `error`, a handler's exception, into an answer to the agent and a fault.

    Return both parts; each may be None.

    The table in the docstring of this module defines what is a fault. The exception must not be a cancellation.
    """
    if exchange.from_outside:
        return None, _split(error, lambda exc: isinstance(exc, TOO_LATE))[1]
    if not exchange.settled:
        answer = _answer_in(error)
        return answer, None if answer else error
    cause = exchange.cause  # the exception that ended a stream, and continues
    if cause is None or _answer_in(cause) is None:
        return None, error
    known = {id(exc) for exc in leaves(cause)}
    return cause, _split(error, lambda exc: id(exc) in known)[1]


def _answer_in(exc: BaseException) -> Refusal | UpstreamError | None:
    """Return `exc` if it is a `Refusal` or an `UpstreamError`.

    If `exc` is a group that contains only such exceptions, return the first exception of the group. Otherwise return
    None.
    """
    while isinstance(exc, BaseExceptionGroup):
        if exc.split((Refusal, UpstreamError))[1] is not None:
            return None
        exc = exc.exceptions[0]
    return exc if isinstance(exc, Refusal | UpstreamError) else None


def _split(
    exc: BaseException, matches: Callable[[BaseException], bool]
) -> tuple[BaseException | None, BaseException | None]:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(matches)
    return (exc, None) if matches(exc) else (None, exc)


def _refused_by(exc: UpstreamError, dialect: str) -> Refused:
    overflow = isinstance(exc, ContextLengthError)
    own = _family(exc.dialect) == _family(dialect)
    retry_after: float | None = None
    with suppress(ValueError):  # `retry-after` may be a date, which is passed on as a header
        retry_after = float(exc.headers.get("retry-after", ""))
    if retry_after is not None and not 0 <= retry_after < 1e6:
        retry_after = None
    refusal = Refusal(
        400 if overflow else exc.status if 400 <= exc.status <= 599 else 502,
        exc.message,
        retry_after=retry_after,
        should_retry=False if overflow else None,
        code="context_length_exceeded" if overflow else exc.code if own else None,
        headers={
            name: value
            for name, value in exc.headers.items()
            if can_be_sent(name, value) and name not in _NOT_PASSED
        },
    )
    # For a prompt that is too long, do not use the provider's text, but a text at which every agent compacts.
    return Refused(refusal, exc, exc.body.encode() if own and exc.body and not overflow else None)


_NOT_PASSED = frozenset({"set-cookie"})
"""Response headers of the provider that are not forwarded to the agent."""


def _family(dialect: str) -> str:
    """Return the family of a dialect, such as `openai`. The dialects of a family have the same error format."""
    return dialect.partition("_")[0]
