"""Convert the outcome of a call to a value without API keys, which a cassette records.

For an outcome that cannot be recorded, this module makes an error.

Rules:

1. A refusal of the API key is not an answer. If such a refusal was recorded, every later run would get it, and the test
   of an application that ignores the error would always pass. With `record_auth_errors=True`, refusals of the API key
   are recorded, too.
2. A failed connection is not an answer. To test how an application handles such a failure, use a fault, or a handler
   that raises an `UpstreamError`.
3. Raw bytes belong to one dialect, and have an HTTP head. A cassette stores neither a dialect nor a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter

import msgspec

from ..._canonical.content import ToolCall
from ..._canonical.response import Response, ResponsePart
from ..._rollout.exchange_state import ExchangeState
from ..._rollout.outcome import Abandoned, Answered, Outcome, Raw, Refused, outcome_of
from ..._trace.increments import Increments
from ..._trace.redaction import Redactor
from ..._upstream.patience import seconds_until
from ..._util.secrets import MARK
from ...errors import ContextLengthError, RecordingFailed, UpstreamTruncated
from ..play import Answer, Failure, FailureKind, text_of

_OF_A_KEY = frozenset({401, 403})
"""HTTP statuses with which a provider refuses a key: 401 and 403 (RFC 9110, 15.5.2 and 15.5.4)."""
_GOOGLES = '"API_KEY_INVALID"'
"""Text that Google's response to an unknown key contains, in the field `reason` of its ErrorInfo. The status of this
response is 400."""


def unrecordable(
    outcome: Outcome | None, call: str, redactor: Redactor, *, auth_errors: bool
) -> RecordingFailed | None:
    """Return the error that reports why an outcome cannot be recorded; None if the outcome can be recorded.

    Args:
        outcome: the outcome.
        call: description of the call.
        redactor: removes API keys from texts that the error contains.
        auth_errors: if True, a refusal of the API key can be recorded.
    """
    if isinstance(outcome, Raw):
        return RecordingFailed(
            f"{call} was answered with raw bytes, by a Fault or respond_raw: a cassette cannot store raw "
            "bytes, so nothing was recorded. Put faults of the wire around the cassette: use "
            "chaos(cassette, …), or a handler that gives some calls to a Fault and all others to the cassette"
        )
    if not isinstance(outcome, Refused):
        return None
    cause, message = outcome.cause, redactor.text(outcome.refusal.message)
    status = outcome.refusal.status if cause is None else cause.status
    is_of_a_key = status in _OF_A_KEY or (status == 400 and cause is not None and _GOOGLES in cause.body)
    if is_of_a_key and not auth_errors:
        return RecordingFailed(
            f"the {'handler' if cause is None else 'provider'} refused the API key ({status}: {message}); nothing was "
            f"recorded. The call was {call}. Check that the key is set and is the right one; to record this answer, "
            "pass record_auth_errors=True"
        )
    if cause is None or cause.__cause__ is None:
        return None
    import httpcore2  # imports are slow, and a program with such an error has loaded httpcore2
    import httpx2

    unreached = (
        *(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.InvalidURL),
        *(httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.ProxyError),
    )
    if isinstance(cause.__cause__, unreached):
        return RecordingFailed(
            f"the provider was not reached ({message}); nothing was recorded. The call was {call}. Check the base URL "
            "and the network"
        )
    return None


def outcome_given(core: ExchangeState, error: BaseException | None) -> Outcome | None:
    if core.outcome is None and error is not None:
        return outcome_of(error, core.dialect)
    return core.outcome


def answer_given(core: ExchangeState, outcome: Outcome | None, redactor: Redactor) -> Answer | None:
    """Return the recorded answer of an exchange; None if a cassette cannot send the answer again.

    Args:
        core: the exchange, with the pieces of its answer.
        outcome: the outcome of the exchange.
        redactor: removes API keys.
    """
    is_kept = isinstance(outcome, Abandoned) or not core.from_outside
    if not is_kept or not isinstance(outcome, Answered | Refused | Abandoned):
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
    """Return the response of `outcome`, without ids, because each answer from a cassette gets new ids."""
    if isinstance(outcome, Answered):
        response = outcome.response
    elif core.fold is not None and (response := core.fold.response()).content:
        pass
    else:
        return None
    usage = response.usage
    return msgspec.structs.replace(
        response,
        content=tuple(
            [
                msgspec.structs.replace(part, id="") if isinstance(part, ToolCall) else part
                for part in response.content
            ]
        ),
        id="",
        model="" if response.model == core.request.model else response.model,
        usage=None if usage is not None and usage.estimated else usage,
    )


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
    retry_after = refusal.retry_after
    if retry_after is None and (left := seconds_until(cause.headers.get("retry-after", ""))) is not None:
        retry_after = float(round(left))
    kinds: dict[type, FailureKind] = {UpstreamTruncated: "truncated", ContextLengthError: "context_length"}
    return Failure(
        kind=next((kind for error, kind in kinds.items() if isinstance(cause, error)), "upstream"),
        status=cause.status if 400 <= cause.status <= 599 else 502,
        message=redactor.text(cause.message),
        retry_after=retry_after,
        should_retry={"true": True, "false": False}.get(cause.headers.get("x-should-retry", "")),
        code=cause.code and redactor.text(cause.code),
        dialect=cause.dialect,
        body=redactor.json_text(cause.body),
    )


def recounted(
    increments: Increments, before: Sequence[ResponsePart], now: Sequence[ResponsePart]
) -> Increments:
    """Return the pieces of an answer after API keys were removed from the answer.

    If a key was spread over several pieces, the last of these pieces contains the text that replaces the key.

    Args:
        increments: the original pieces.
        before: the original parts of the answer.
        now: the parts without keys.
    """
    moves = [_move(text_of(one), text_of(other)) for one, other in zip(before, now, strict=True)]
    at, waited = [0] * len(moves), 0
    found: list[tuple[int, int, int]] = []
    """Part index, length and wait of each piece. If the removal left a piece empty, its wait is added to the wait of
    the next piece."""
    numbers = [part for part, count in increments.runs for _ in range(count)]
    for part, length, wait in zip(numbers, increments.lengths, increments.waits, strict=True):
        waited += wait
        start, at[part] = at[part], at[part] + length
        left = moves[part](at[part]) - moves[part](start)
        if left:
            found.append((part, left, waited))
            waited = 0
    runs = [(part, len(list(group))) for part, group in groupby(found, key=itemgetter(0))]
    _, lengths, waits = zip(*found, strict=True) if found else ((), (), ())
    return Increments(runs=tuple(runs), lengths=lengths, waits=waits)


def _move(before: str, now: str) -> Callable[[int], int]:
    """Return a function that maps a position in `before` to the same place in `now`, the text without keys."""
    if before == now:
        return lambda place: place
    first, *rest = now.split(MARK)
    keys: list[tuple[int, int]] = []
    """Start and end of each key in the text `before`. The keys are found by the texts between them, which `before` and
    `now` both contain."""
    at = len(first)
    for number, between in enumerate(rest, 1):
        end = len(before) - len(between) if number == len(rest) else before.find(between, at)
        keys.append((at, max(end, at)))
        at = max(end, at) + len(between)

    def moved(place: int) -> int:
        shift = 0
        for begin, end in keys:
            if place < end:
                return shift + min(place, begin)
            shift += len(MARK) - (end - begin)
        return place + shift

    return moved
