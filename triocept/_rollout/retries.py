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

__all__ = ["RETRY_COUNT", "Retry", "attempt_of", "retry_key", "meaning", "retry_of", "same_request"]

_CACHE_MARK = frozenset({"cache_control"})
_OF_CALL = _CACHE_MARK | {"client_metadata", "metadata", "stream_options", "prompt_cache_key"}
"""Fields of the document itself that say nothing to the model. Within a schema they are names as any other."""
_WRAPPERS = ("function", "custom", "image_url", "input_audio", "file")
"""What chat completions wrap a tool or a part in: litellm and OpenRouter take a mark there, too."""
_LEVELS = 8
"""Of blocks in blocks, that are looked at: more than any dialect has."""
RETRY_COUNT = "x-stainless-retry-count"
"""How often the SDKs of OpenAI and Anthropic have tried before."""
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
    count = headers.get(RETRY_COUNT)
    return int(count) + 1 if count is not None and count.isdecimal() and len(count) < 7 else 1


def retry_of(headers: Mapping[str, str]) -> Retry:
    """What these headers (names in lower case) say of it."""
    if RETRY_COUNT not in headers:
        return Retry.UNKNOWN
    if attempt_of(headers) > 1:
        return Retry.MARKED
    return Retry.FIRST if _CLAUDE not in headers else Retry.UNKNOWN


def retry_key(request: Request, claimed: Conversation | None) -> Hashable:
    """Equal for calls of which one may repeat the other; cheap, and of most that do not it differs."""
    last = request.last
    results = tuple([part.id for part in last.content if isinstance(part, ToolResult)]) if last else ()
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
    plain = msgspec.structs.replace(
        request, stream=False, framing="sse", include_usage=True, user=None, continued_from=None
    )
    said = msgspec.json.encode(_said(msgspec.to_builtins(plain)), order="sorted")
    return blake2b(said, digest_size=16).digest()


def _said(document: dict[str, Json]) -> dict[str, Json]:
    """A request without what says nothing to the model: fields that the wire has in certain places, and there alone."""
    said = _without(document, _OF_CALL)
    said["messages"] = [
        _without(message, _CACHE_MARK)
        | {"content": [_said_part(part) for part in message.get("content", ())]}
        for message in document["messages"]
    ]
    said["tools"] = [_unwrapped(_without(tool, _CACHE_MARK)) for tool in document.get("tools", ())]
    for name in ("tool_choice", "output_format"):
        if name in said:
            said[name] = _without(said[name], frozenset())
    return said


def _said_part(part: dict[str, Json]) -> dict[str, Json]:
    said = _unwrapped(_without(part, _CACHE_MARK))
    if "raw" in said:
        said["raw"] = _unmarked(said["raw"])
    if "content" in said:
        said["content"] = [_said_part(inner) for inner in said["content"]]
    return said


def _unwrapped(thing: dict[str, Json]) -> dict[str, Json]:
    """A tool or a part without the marks that stand within what chat completions wrap it in."""
    extra: dict[str, Json] = thing.get("extra") or {}
    inner = {name: extra[name] for name in _WRAPPERS if isinstance(extra.get(name), dict)}
    plain = {name: _unmarked(value) for name, value in inner.items()}
    if plain == inner:
        return thing
    left = {name: plain.get(name, value) for name, value in extra.items() if plain.get(name) != {}}
    rest = {name: value for name, value in thing.items() if name != "extra"}
    return rest | {"extra": left} if left else rest


def _unmarked(block: Json, levels: int = _LEVELS) -> Json:
    """A block that only its own dialect knows, without cache marks: on it, and on the blocks in its content (of a
    search result, or of a document whose source is content)."""
    if not isinstance(block, dict) or not levels:
        return block
    plain = {name: value for name, value in block.items() if name not in _CACHE_MARK}
    if isinstance(content := plain.get("content"), list):
        plain["content"] = [_unmarked(inner, levels - 1) for inner in content]
    if isinstance(source := plain.get("source"), dict):
        plain["source"] = _unmarked(source, levels - 1)
    return plain


def _without(thing: dict[str, Json], names: frozenset[str]) -> dict[str, Json]:
    """A thing of a request without these of its further fields; one without any is as one that has none."""
    extra = {name: value for name, value in (thing.get("extra") or {}).items() if name not in names}
    rest = {name: value for name, value in thing.items() if name != "extra"}
    return rest | {"extra": extra} if extra else rest
