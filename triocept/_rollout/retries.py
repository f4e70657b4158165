"""Whether a call repeats another.

Real agents re-send a call whose answer they did not get: on a new connection, some in another form (Claude Code
replays a stream without `stream`, Codex orders keys anew). Two calls are the same if they say the same to the model:
everything counts but how the answer is to be delivered (`stream`, `include_usage`), how the conversation was told
(whole, or from an earlier response on), who asks (`user`, client metadata), and cache marks.
"""

from __future__ import annotations

import msgspec

from .._canonical.content import Json
from .._canonical.request import Request

__all__ = ["repeats"]

_MEANINGLESS = frozenset(
    {"cache_control", "client_metadata", "metadata", "stream_options", "prompt_cache_key"}
)


def repeats(request: Request, other: Request) -> bool:
    """Whether `request` says the same to the model as `other`."""
    if (
        request.dialect != other.dialect
        or request.model != other.model
        or len(request.messages) != len(other.messages)
    ):
        return False
    return bool(_meaning(request) == _meaning(other))


def _meaning(request: Request) -> Json:
    plain = msgspec.structs.replace(request, stream=False, include_usage=True, user=None, continued_from=None)
    return _stripped(msgspec.to_builtins(plain))


def _stripped(value: Json) -> Json:
    match value:
        case dict():
            kept = {k: _stripped(v) for k, v in value.items() if k not in _MEANINGLESS}
            return {k: v for k, v in kept.items() if not (k == "extra" and not v)}
        case list() | tuple():
            return [_stripped(item) for item in value]
        case _:
            return value
