"""Outcomes that no cassette keeps, and their errors.

Rules:

1. A refusal of the key is not an answer. Recorded, it would be the answer of every later run, and the test of an
   application that swallows it would always pass. A program can request that such refusals are recorded.
2. A failed connection is not an answer. To test how an application handles it, use a fault, or a handler that raises an
   `UpstreamError`.
3. Raw bytes belong to one dialect, and have a head: a cassette stores neither.
"""

from __future__ import annotations

from ..._rollout.outcome import Outcome, Raw, Refused
from ..._trace.redaction import Redactor
from ...errors import RecordingFailed, UpstreamError

_OF_A_KEY = frozenset({401, 403})
"""Not authenticated; authenticated, and not allowed (RFC 9110, 15.5.2 and 15.5.4)."""
_GOOGLES = '"API_KEY_INVALID"'
"""Google answers 400 to an unknown key, with this reason in the details (ErrorInfo.reason)."""


def unrecordable(
    outcome: Outcome | None, asker: str, redactor: Redactor, *, auth_errors: bool
) -> RecordingFailed | None:
    """Return the error why an outcome is not recorded, or None if it can be recorded.

    Args:
        outcome: the outcome.
        asker: the call, in words.
        redactor: removes keys from texts that the error repeats.
        auth_errors: True: the refusal of a key is to be recorded.
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
    """Return True if an upstream's error has no connection as its cause."""
    if error.__cause__ is None:
        return False
    import httpcore2  # imports are slow, and a program with such an error has loaded httpcore2
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
