"""What an agent got, when somebody has answered it: recorded."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..._canonical.content import Blob, Opaque, Reasoning, RefusalText, Text, ToolCall
from ..._canonical.response import Response, ResponsePart
from ..._rollout.exchange_state import ExchangeState
from ..._rollout.outcome import Abandoned, Answered, Outcome, Refused, outcome_of
from ..._upstream.patience import seconds_until
from ...errors import ContextLengthError, UpstreamError, UpstreamTruncated
from ..answer import Answer, Failure, FailureKind
from .keys import KeyFinder
from .recounted import recounted


def outcome_given(core: ExchangeState, error: BaseException | None) -> Outcome | None:
    """What became of an exchange whose handler has returned, or raised `error`; None: nothing yet."""
    if core.outcome is None and error is not None:
        return outcome_of(error, core.dialect)
    return core.outcome


def answer_given(core: ExchangeState, outcome: Outcome | None, keys: KeyFinder) -> Answer | None:
    """What became of an exchange, as a value; None: nothing that could be given again.

    Args:
        core: the exchange; in which pieces it was answered was kept.
        outcome: what became of it.
        keys: takes keys out.
    """
    if not isinstance(outcome, Answered | Refused | Abandoned) or (
        core.from_outside and not isinstance(outcome, Abandoned)
    ):
        return None
    response = _response(core, outcome)
    clean = response and _clean(response, keys)
    increments = core.kept_increments
    if increments is not None and response is not None and clean is not None and clean != response:
        increments = recounted(increments, response.content, clean.content)
    return Answer(
        response=clean,
        failure=_failure(outcome, keys) if isinstance(outcome, Refused) else None,
        hung_up=isinstance(outcome, Abandoned),
        holds_calls=core.hold_calls,
        increments=increments,
        first_event=core.first_event,
        duration=core.elapsed,
    )


def _response(core: ExchangeState, outcome: Outcome) -> Response | None:
    """What was said, without what is made anew for each answer."""
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


def _failure(outcome: Refused, keys: KeyFinder) -> Failure:
    refusal, cause = outcome.refusal, outcome.cause
    if cause is None:
        return Failure(
            kind="refusal",
            status=refusal.status,
            message=keys.text(refusal.message),
            retry_after=refusal.retry_after,
            should_retry=refusal.should_retry,
            code=_code(refusal.code, keys),
        )
    told = refusal.retry_after
    if told is None and (left := seconds_until(cause.headers.get("retry-after", ""))) is not None:
        told = float(round(left))
    return Failure(
        kind=_kind(cause),
        status=cause.status if 400 <= cause.status <= 599 else 502,
        message=keys.text(cause.message),
        retry_after=told,
        should_retry={"true": True, "false": False}.get(cause.headers.get("x-should-retry", "")),
        code=_code(cause.code, keys),
        dialect=cause.dialect,
        body=keys.written(cause.body),
    )


def _code(code: str | None, keys: KeyFinder) -> str | None:
    return code and keys.text(code)


def _kind(error: UpstreamError) -> FailureKind:
    if isinstance(error, UpstreamTruncated):
        return "truncated"
    return "context_length" if isinstance(error, ContextLengthError) else "upstream"


def _clean(response: Response, keys: KeyFinder) -> Response:
    """An answer without keys."""
    usage = response.usage
    return msgspec.structs.replace(
        response,
        content=tuple([_clean_part(part, keys.text, keys) for part in response.content]),
        stop_sequence=response.stop_sequence and keys.text(response.stop_sequence),
        usage=usage and msgspec.structs.replace(usage, extra=keys.json(usage.extra)),
        model=keys.text(response.model),
        extra=keys.json(response.extra),
    )


def _clean_part(part: ResponsePart, text: Callable[[str], str], keys: KeyFinder) -> ResponsePart:
    match part:
        case ToolCall():
            return msgspec.structs.replace(
                part,
                name=text(part.name),
                arguments=keys.written(part.arguments),
                extra=keys.json(part.extra),
            )
        case Text() | RefusalText():
            return msgspec.structs.replace(part, text=text(part.text), extra=keys.json(part.extra))
        case Reasoning():
            blobs = tuple([Blob(blob.dialect, blob.kind, keys.blob(blob.data)) for blob in part.blobs])
            said, extra = text(part.text), keys.json(part.extra)
            return msgspec.structs.replace(part, text=said, blobs=blobs, extra=extra)
        case Opaque():
            return Opaque(part.dialect, keys.json(part.raw))
