"""The prefixes of the ids that an answer gets where nobody gave it one: those that peers of its dialect look for."""

from __future__ import annotations

from secrets import token_hex

__all__ = ["call_id", "response_id"]

_RESPONSES = {
    "openai_chat": "chatcmpl-",
    "openai_completions": "cmpl-",
    "openai_responses": "resp_",
    "anthropic_messages": "msg_",
}
_CALLS = {"anthropic_messages": "toolu_"}


def response_id(dialect: str) -> str:
    """An id for an answer in this dialect; Gemini's have no prefix."""
    return _RESPONSES.get(dialect, "") + token_hex(12)


def call_id(dialect: str) -> str:
    """An id for a tool call: of letters that every dialect allows, and recognisable when it comes back."""
    return _CALLS.get(dialect, "call_") + token_hex(12)
