"""The type `Failure` for errors of model calls in all dialects; recognition of context overflows by the error message.

An agent compacts its history when an error's text contains a phrase from the agent's list of overflow phrases. So
triocept recognises the phrases of all providers, and each dialect writes the phrase that all agents of the dialect
recognise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import final

import msgspec

from .._canonical.content import Json
from ..errors import ContextLengthError, UpstreamError
from ._documents import encode_json


@final
class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error of a model call, as one type for all dialects."""

    status: int
    """The HTTP status, 400 to 599. An SDK retries the call after some statuses, and not after others."""
    message: str
    code: str | None = None
    """The error code or type in the dialect's words (`insufficient_quota`, `overloaded_error`). If None, the code for
    the status is used."""
    param: str | None = None
    """The path of the invalid field in the request; None if the error is not about a field."""
    retry_after: float | None = None
    """Seconds that the client should wait before a retry."""
    should_retry: bool | None = None
    """Value of the header `x-should-retry`, which Claude Code and the SDKs of OpenAI and Anthropic obey."""
    headers: dict[str, str] = {}
    """Further response headers, such as rate limits; names in lower case."""


ABORTED = "abort"
"""Error code of an answer that the model server aborted. vLLM and SGLang abort answers before their weights change."""
OVERFLOW = "context_length_exceeded"
"""The `Failure.code` of a context overflow, in every dialect."""

_PHRASES = (
    # The lists of Claude Code 2.1.331, pi 0.73, qwen-code 0.24; the texts of vLLM, SGLang, llama.cpp, Gemini,
    # Ollama 0.12.
    "prompt is too long",
    "prompt too long",
    "input is too long for requested model",
    "maximum context length",
    "context_length_exceeded",
    "exceed_context_size",
    "exceeds the context window",
    "longer than the model's context length",
    "exceeds the available context size",
    "exceeds the maximum number of tokens allowed",
    "exceeded model token limit",
    "maximum prompt length",
    "reduce the length of the messages",
    "exceed context limit",
    "greater than the context length",
    "context length is only",
    "configured context size is",
    "exceeds the context length",
)
_NOT_THESE = ("rate limit", "rate_limit", "too many requests")
_SUM = re.compile(
    r"(\d{1,12}) \+ (\d{1,12}) > (\d{1,12})"
)  # bounded: otherwise a long row of digits takes quadratic time
_NUMBER = re.compile(r"\d{2,}")


def is_overflow(message: str, code: str | None = None) -> bool:
    """Return True if a provider's error message or code means that the prompt is too long for the model."""
    if code == OVERFLOW:
        return True
    text = message.lower()
    if any(word in text for word in _NOT_THESE):
        return False
    return code == "exceed_context_size_error" or any(phrase in text for phrase in _PHRASES)


def overflow_counts(message: str) -> tuple[int, int] | None:
    """Return the number of tokens in the prompt, and the model's maximum.

    Return None if `message` does not contain both numbers.
    """
    found = _SUM.search(message)
    if found:
        return int(found[1]) + int(found[2]), int(found[3])
    numbers = [int(number) for number in _NUMBER.findall(message.replace(",", ""))[:2]]
    return (max(numbers), min(numbers)) if len(numbers) == 2 else None


def is_overflow_failure(failure: Failure) -> bool:
    return failure.code == OVERFLOW or (failure.status == 400 and is_overflow(failure.message, failure.code))


def overflow_words(message: str, *, known: str, counted: str, uncounted: str) -> str:
    """Return an error message about a too long prompt, worded so that the agents of a dialect recognise the cause.

    Args:
        message: the provider's message.
        known: a phrase that the agents recognise, in lower case. A message that contains the phrase is returned
            unchanged.
        counted: a format string with `tokens` and `most`, used if the message contains both numbers.
        uncounted: a prefix for the message, used if the message does not contain both numbers.
    """
    if known in message.lower():
        return message
    counts = overflow_counts(message)
    return f"{uncounted}: {message}" if counts is None else counted.format(tokens=counts[0], most=counts[1])


def aborted(sign: str) -> UpstreamError:
    """Return the exception for an answer that the model server aborted.

    `sign` names the part of the answer that shows the abort, such as `finish_reason "abort"`. If a stream ends with
    this error, pi 0.73.1 sends the call again only because the text contains `service unavailable`.
    """
    text = f"the provider aborted its answer ({sign}), as servers do before they change their weights"
    return UpstreamError(f"{text}: service unavailable, send the call again", status=503, code=ABORTED)


def error_text(error: Json, document: Json, status: int) -> str:
    """Return the message in a provider's error.

    If the error has no message, return the JSON of the error; if the error is empty, return a text with the HTTP
    status. `error` is a field of `document`, or the whole document.
    """
    said: Json = None
    if isinstance(error, dict):
        said = error.get("message") or error.get("detail")
    elif isinstance(error, str):
        said = error
    if isinstance(said, str):
        return said
    text = encode_json(said or document).decode("utf-8", "replace") if said or document else ""
    return text or f"the provider answered {status}"


def status_of(value: Json, otherwise: int = 502) -> int:
    """Return `value` as an int if `value` is an HTTP error status (400 to 599), else `otherwise`."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else otherwise


def error_of(failure: Failure, *, body: str = "", headers: Mapping[str, str] | None = None) -> UpstreamError:
    """Return the `UpstreamError` to raise for a provider's `failure`."""
    headers = dict(headers or {})
    if failure.retry_after is not None:
        headers.setdefault("retry-after", f"{failure.retry_after:g}")
    if failure.should_retry is not None:
        headers.setdefault("x-should-retry", "true" if failure.should_retry else "false")
    if failure.code != OVERFLOW:
        return UpstreamError(
            failure.message, status=failure.status, body=body, headers=headers, code=failure.code
        )
    # Put the phrase into the message, because another dialect does not get the code.
    message = failure.message if is_overflow(failure.message) else f"prompt is too long: {failure.message}"
    return ContextLengthError(message, status=failure.status, body=body, headers=headers)
