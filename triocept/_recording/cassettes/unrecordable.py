"""What no cassette keeps, and what is said of it.

Rules:

1. A provider that refuses the key has not answered: kept, that would be the answer of every later run, and the test of
   an application that swallows it would be green for ever. Who wants to have it kept says so.
2. Nor has one that was not reached: what an application makes of that is tested with a fault, or with a handler that
   raises an `UpstreamError`.
3. Raw bytes are in one dialect's words, with their head: a cassette has neither.
"""

from __future__ import annotations

from ..._rollout.outcome import Outcome, Raw, Refused
from ..._trace.redaction import Redactor
from ...errors import RecordingFailed, UpstreamError

_OF_A_KEY = frozenset({401, 403})
"""Not authenticated; authenticated, and not allowed (RFC 9110, 15.5.2 and 15.5.4)."""
_GOOGLES = '"API_KEY_INVALID"'
"""Google answers 400 to a key that it does not know, and says this in the details (ErrorInfo.reason)."""


def unrecordable(
    outcome: Outcome | None, asker: str, redactor: Redactor, *, auth_errors: bool
) -> RecordingFailed | None:
    """Why an outcome is not recorded; None: nothing is against it.

    Args:
        outcome: it.
        asker: whose call it was, in words.
        redactor: takes keys out of what is repeated.
        auth_errors: whether the refusal of a key is to be recorded.
    """
    match outcome:
        case Refused() if not auth_errors and _is_of_a_key(outcome):
            return RecordingFailed(
                f"{_who(outcome)} ({_status(outcome)}: {redactor.text(outcome.refusal.message)}); nothing was "
                f"recorded. It was {asker}. Is the key set, and is it the right one? Where this very answer is to be "
                "recorded: record_auth_errors=True"
            )
        case Refused(cause=UpstreamError() as cause) if _was_not_reached(cause):
            return RecordingFailed(
                f"the provider was not reached ({redactor.text(outcome.refusal.message)}); nothing was recorded. It "
                f"was {asker}. Is the base URL right, and is there a network?"
            )
        case Raw():
            return RecordingFailed(
                f"{asker} was answered with raw bytes, by a Fault or respond_raw: no cassette keeps such, and nothing "
                "was recorded. What goes wrong on the wire is put around a cassette: chaos(cassette, …), or a handler "
                "that gives some calls to a Fault and all others to the cassette"
            )
        case _:
            return None


def _was_not_reached(error: UpstreamError) -> bool:
    """Whether an upstream's error comes of there being no connection."""
    if error.__cause__ is None:
        return False
    import httpcore2  # they take long, and whoever has such an error has loaded them
    import httpx2

    kinds = (
        *(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.InvalidURL),
        *(httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.ProxyError),
    )
    return isinstance(error.__cause__, kinds)


def _is_of_a_key(outcome: Refused) -> bool:
    body = outcome.cause.body if outcome.cause is not None else ""
    return _status(outcome) in _OF_A_KEY or (_status(outcome) == 400 and _GOOGLES in body)


def _status(outcome: Refused) -> int:
    return outcome.cause.status if outcome.cause is not None else outcome.refusal.status


def _who(outcome: Refused) -> str:
    return "the provider refused the key" if outcome.cause is not None else "whoever answers refused the key"
