"""Make the error responses that an agent gets, in the format of its dialect."""

from __future__ import annotations

import logging
from collections.abc import Callable
from secrets import token_hex
from typing import TypeAlias

import msgspec

from .._rollout.outcome import Abandoned, Answered, Failed, Outcome, Raw, Refused, words_of_fault
from ..dialects import Dialect, Failure
from ..errors import DialectError, Refusal
from .transport import Reply

TakeFault: TypeAlias = Callable[[Exception], object]
"""Function that is called with each exception that the client did not cause."""

log = logging.getLogger("triocept.endpoint")
_encode = msgspec.json.Encoder().encode


def identified(failure: Failure, dialect: Dialect, request_id: str = "") -> Failure:
    """Return `failure` with the header in which the dialect sends the id of a request.

    If the provider has sent this header, its id is kept. Otherwise the id is `request_id` or, if that is empty, a new
    id. If the dialect has no such header, return `failure` unchanged.
    """
    if not (name := dialect.request_id_header) or name in failure.headers:
        return failure
    headers = {name: request_id or f"req_{token_hex(8)}", **failure.headers}
    return msgspec.structs.replace(failure, headers=headers)


def failure_reply(
    failure: Failure, dialect: Dialect, request_id: str = "", take_fault: TakeFault | None = None
) -> Reply:
    """Return the HTTP response for a failure, with an error body in the dialect's format.

    If the dialect cannot render the error, the reply still has the failure's status, and `take_fault` is called with
    the dialect's exception. If `take_fault` is None, the exception is logged.
    """
    failure = identified(failure, dialect, request_id)
    try:
        body = _encode(dialect.render_error(failure))
    except Exception as exc:
        if take_fault is not None:
            take_fault(exc)
        else:
            log.exception(
                "the dialect %s could not render an error, so the agent gets only the error's message",
                dialect.name,
            )
        body = _encode({"error": {"message": failure.message}})
    headers = {**failure.headers, "content-type": "application/json"}
    if failure.retry_after is not None:
        headers["retry-after"] = f"{failure.retry_after:g}"
    if failure.should_retry is not None:
        headers["x-should-retry"] = "true" if failure.should_retry else "false"
    if failure.status == 405:
        headers["allow"] = "POST"
    if failure.status == 426:
        headers["upgrade"] = "HTTP/1.1"
    return Reply(failure.status, headers, body)


def failure_of(exc: Exception, max_body: int) -> Failure:
    match exc:
        case Refusal():
            return Failure(
                status=exc.status,
                message=exc.message,
                code=exc.code,
                retry_after=exc.retry_after,
                should_retry=exc.should_retry,
                headers=exc.headers,
            )
        case DialectError():
            return Failure(status=400, message=str(exc), param=exc.path or None, should_retry=False)
        case _:
            return Failure(
                status=413,
                message=f"the body is larger than {max_body} bytes, which is the limit of this endpoint",
                should_retry=False,
            )


def failure_of_outcome(outcome: Outcome) -> Failure:
    """Return the failure that is sent for an outcome without an answer.

    If an exception of the program made the exchange fail, the message names only the exception's class. The exception's
    own message is not sent to the agent.
    """
    match outcome:
        case Refused(refusal=refusal):
            return failure_of(refusal, 0)
        case Failed(error=error):
            return failure_of_fault(error)
        case Abandoned():
            return Failure(status=503, message="the exchange was abandoned", should_retry=False)
        case Answered() | Raw():
            raise AssertionError("an answer is not a failure")


def failure_of_fault(error: BaseException) -> Failure:
    return Failure(status=500, message=words_of_fault(error), should_retry=False)
