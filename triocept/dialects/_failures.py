"""Failures, between errors and wires; and the one failure that agents know by its words: context overflow.

Agents compact their history when they recognise an overflow, by phrases of their own lists. So it is
recognised here in everybody's words, and said by every dialect in the words that all agents of that dialect
know.
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
    """Why an agent is not answered, in one form for all dialects."""

    status: int
    """The HTTP status, 400 to 599: what an SDK acts on."""
    message: str
    code: str | None = None
    """The dialect's own code or type (`insufficient_quota`, `overloaded_error`); None: chosen by status."""
    param: str | None = None
    """The path of the offending field, where one is to blame."""
    retry_after: float | None = None
    """Seconds."""
    should_retry: bool | None = None
    """What `x-should-retry` says: Claude Code and the SDKs of OpenAI and Anthropic obey it."""
    headers: dict[str, str] = {}
    """Further response headers (rate limits), names in lower case."""


OVERFLOW = "context_length_exceeded"
"""The `Failure.code` of an overflow, in every dialect."""

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
_SUM = re.compile(r"(\d{1,12}) \+ (\d{1,12}) > (\d{1,12})")  # bounded: else a row of digits takes its square
_NUMBER = re.compile(r"\d{2,}")


def is_overflow(message: str, code: str | None = None) -> bool:
    """Whether a provider says that the prompt is too long for its model."""
    if code == OVERFLOW:
        return True
    text = message.lower()
    if any(word in text for word in _NOT_THESE):
        return False
    return code == "exceed_context_size_error" or any(phrase in text for phrase in _PHRASES)


def overflow_counts(message: str) -> tuple[int, int] | None:
    """How many tokens there were and how many fit, where an overflow message tells."""
    found = _SUM.search(message)
    if found:
        return int(found[1]) + int(found[2]), int(found[3])
    numbers = [int(number) for number in _NUMBER.findall(message.replace(",", ""))[:2]]
    return (max(numbers), min(numbers)) if len(numbers) == 2 else None


def says_overflow(failure: Failure) -> bool:
    """Whether a failure is an overflow, whoever it comes from."""
    return failure.code == OVERFLOW or (failure.status == 400 and is_overflow(failure.message, failure.code))


def overflow_words(message: str, *, known: str, counted: str, uncounted: str) -> str:
    """The words of an overflow that the agents of a dialect know.

    Args:
        message: the provider's.
        known: a phrase of theirs, in lower case: a message that has it stays as it is.
        counted: what is said, of `tokens` and `most`, where the message tells them.
        uncounted: what stands before the message where it does not.
    """
    if known in message.lower():
        return message
    counts = overflow_counts(message)
    return f"{uncounted}: {message}" if counts is None else counted.format(tokens=counts[0], most=counts[1])


def error_text(error: Json, document: Json, status: int) -> str:
    """The words of an error that is in a document, or is the document."""
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
    """`value` where it is a status that says failure."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else otherwise


def error_of(failure: Failure, *, body: str = "", headers: Mapping[str, str] | None = None) -> UpstreamError:
    """The error that a provider's failure is raised as."""
    headers = dict(headers or {})
    if failure.retry_after is not None:
        headers.setdefault("retry-after", f"{failure.retry_after:g}")
    if failure.should_retry is not None:
        headers.setdefault("x-should-retry", "true" if failure.should_retry else "false")
    if failure.code != OVERFLOW:
        return UpstreamError(
            failure.message, status=failure.status, body=body, headers=headers, code=failure.code
        )
    # The words go with the error, for the code does not reach another dialect.
    message = failure.message if is_overflow(failure.message) else f"prompt is too long: {failure.message}"
    return ContextLengthError(message, status=failure.status, body=body, headers=headers)
