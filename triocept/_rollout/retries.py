"""Whether a call repeats another.

Real agents re-send a call whose answer they did not get: on a new connection, some in another form (Claude Code
replays a stream without `stream`, Codex orders keys anew). Two calls are the same if they say the same to the model:
everything counts but how the answer is to be delivered (`stream`, `include_usage`), how the conversation was told
(whole, or from an earlier response on), who asks (`user`, client metadata), and cache marks.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import Enum
from hashlib import blake2b

import msgspec

from .._canonical.content import Json, ToolResult
from .._canonical.request import Request
from .._trace.conversation import Conversation

__all__ = ["Retry", "attempt_of", "retry_key", "meaning", "retry_of", "same_request"]

_MEANINGLESS = frozenset(
    {"cache_control", "client_metadata", "metadata", "stream_options", "prompt_cache_key"}
)
_COUNT = "x-stainless-retry-count"
_CLAUDE = "x-claude-code-session-id"


class Retry(Enum):
    """What a call's headers say of whether it is a retry.

    The SDKs of OpenAI and Anthropic count; Claude Code, which is built on one, has a retry loop of its own, where the
    count is always 0; Codex, opencode, gemini-cli and the AI SDK say nothing.
    """

    MARKED = "marked"
    FIRST = "first"
    UNKNOWN = "unknown"


def attempt_of(headers: Mapping[str, str]) -> int:
    """Which try of the agent's SDK a call is, as far as the SDK tells; from 1."""
    count = headers.get(_COUNT, "0")
    return int(count) + 1 if count.isdecimal() and len(count) < 7 else 1


def retry_of(headers: Mapping[str, str]) -> Retry:
    """What these headers (names in lower case) say of it."""
    if attempt_of(headers) > 1:
        return Retry.MARKED
    return Retry.FIRST if _COUNT in headers and _CLAUDE not in headers else Retry.UNKNOWN


def retry_key(request: Request, claimed: Conversation | None) -> Hashable:
    """Equal for calls of which one may repeat the other; cheap, and of most that do not it differs."""
    last = request.last
    results = tuple(part.id for part in last.content if isinstance(part, ToolResult)) if last else ()
    return (
        request.dialect,
        request.model,
        claimed and claimed.id,
        len(request.messages),
        last.text if last else "",
        results,
    )


def same_request(request: Request, other: Request) -> bool:
    """Whether `request` says the same to the model as `other`."""
    return meaning(request) == meaning(other)


def meaning(request: Request) -> bytes:
    """A digest of what it says to the model: equal for calls of which one repeats the other. Not cheap."""
    plain = msgspec.structs.replace(request, stream=False, include_usage=True, user=None, continued_from=None)
    said = msgspec.json.encode(_stripped(msgspec.to_builtins(plain)), order="sorted")
    return blake2b(said, digest_size=16).digest()


def _stripped(value: Json) -> Json:
    match value:
        case dict():
            kept = {k: _stripped(v) for k, v in value.items() if k not in _MEANINGLESS}
            return {k: v for k, v in kept.items() if not (k == "extra" and not v)}
        case list() | tuple():
            return [_stripped(item) for item in value]
        case _:
            return value
