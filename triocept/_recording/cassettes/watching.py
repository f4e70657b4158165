"""The outcome that an agent got from a handler, as a recordable value."""

from __future__ import annotations

import msgspec

from ..._canonical.content import ToolCall
from ..._canonical.response import Response, ResponsePart
from ..._rollout.exchange_state import ExchangeState
from ..._rollout.outcome import Abandoned, Answered, Outcome, Refused, outcome_of
from ..._trace.redaction import Redactor
from ..._upstream.patience import seconds_until
from ...errors import ContextLengthError, UpstreamError, UpstreamTruncated
from ..answer import Answer, Failure, FailureKind
from .recounted import recounted


def outcome_given(core: ExchangeState, error: BaseException | None) -> Outcome | None:
    """Return the outcome of an exchange whose handler has returned, or raised `error`; None: no outcome yet."""
    if core.outcome is None and error is not None:
        return outcome_of(error, core.dialect)
    return core.outcome


def answer_given(core: ExchangeState, outcome: Outcome | None, redactor: Redactor) -> Answer | None:
    """Return the answer of an exchange as a value, or None if it could not be given again.

    Args:
        core: the exchange, with the pieces of its answer.
        outcome: the outcome of the exchange.
        redactor: removes keys.
    """
    if not isinstance(outcome, Answered | Refused | Abandoned) or (
        core.from_outside and not isinstance(outcome, Abandoned)
    ):
        return None
    response = _response(core, outcome)
    clean = response and redactor.response(response)
    increments = core.kept_increments
    if increments is not None and response is not None and clean is not None and clean != response:
        increments = recounted(increments, response.content, clean.content)
    return Answer(
        response=clean,
        failure=_failure(outcome, redactor) if isinstance(outcome, Refused) else None,
        hung_up=isinstance(outcome, Abandoned),
        holds_calls=core.hold_calls,
        increments=increments,
        first_event=core.first_event,
        duration=core.elapsed,
    )


def _response(core: ExchangeState, outcome: Outcome) -> Response | None:
    """Return the response, without the ids that each answer gets anew."""
    if isinstance(outcome, Answered):
        response = outcome.response
    elif core.fold is not None and (response := core.fold.response()).content:
        pass
    else:
        return None
    usage = response.usage
    return msgspec.structs.replace(
        response,
        content=tuple([_without_id(part) for part in response.content]),
        id="",
        model="" if response.model == core.request.model else response.model,
        usage=None if usage is not None and usage.estimated else usage,
    )


def _without_id(part: ResponsePart) -> ResponsePart:
    return msgspec.structs.replace(part, id="") if isinstance(part, ToolCall) else part


def _failure(outcome: Refused, redactor: Redactor) -> Failure:
    refusal, cause = outcome.refusal, outcome.cause
    if cause is None:
        return Failure(
            kind="refusal",
            status=refusal.status,
            message=redactor.text(refusal.message),
            retry_after=refusal.retry_after,
            should_retry=refusal.should_retry,
            code=refusal.code and redactor.text(refusal.code),
        )
    told = refusal.retry_after
    if told is None and (left := seconds_until(cause.headers.get("retry-after", ""))) is not None:
        told = float(round(left))
    return Failure(
        kind=_kind(cause),
        status=cause.status if 400 <= cause.status <= 599 else 502,
        message=redactor.text(cause.message),
        retry_after=told,
        should_retry={"true": True, "false": False}.get(cause.headers.get("x-should-retry", "")),
        code=cause.code and redactor.text(cause.code),
        dialect=cause.dialect,
        body=redactor.json_text(cause.body),
    )


def _kind(error: UpstreamError) -> FailureKind:
    if isinstance(error, UpstreamTruncated):
        return "truncated"
    return "context_length" if isinstance(error, ContextLengthError) else "upstream"
