"""The same conversation in every dialect: its body, and where it is sent.

A body is that of `bodies.py`, translated by our own codecs, before anything is measured. Completions have no tools:
there, the conversation is one text.
"""

from __future__ import annotations

import json
from typing import Any

from triocept.dialects import DIALECTS
from triocept.dialects.kit import encode_json

from .bodies import CHAT, make_body

NAMES = tuple(DIALECTS)
"""All dialects, chat completions first."""

_CHAT_PATH = "/v1/chat/completions"
_PATHS = {
    CHAT: (_CHAT_PATH, _CHAT_PATH),
    "openai_completions": ("/v1/completions", "/v1/completions"),
    "openai_responses": ("/v1/responses", "/v1/responses"),
    "anthropic_messages": ("/v1/messages", "/v1/messages"),
    "gemini": (
        "/v1beta/models/bench:generateContent",
        "/v1beta/models/bench:streamGenerateContent?alt=sse",
    ),
    "ollama": ("/api/chat", "/api/chat"),
}
_TRIES = 5


def path_in(chat_path: str, dialect: str, *, stream: bool) -> str:
    """The path of a rollout in another dialect, given that in chat completions."""
    return chat_path.removesuffix(_CHAT_PATH) + _PATHS[dialect][stream]


def make_dialect_body(size: int, dialect: str, *, stream: bool = False) -> bytes:
    """A request's body of exactly `size` bytes in this dialect."""
    wanted = size
    for _ in range(_TRIES):  # the text that fills it up is as long in every dialect
        body = _translated(json.loads(make_body(wanted, stream=stream)), dialect)
        if len(body) == size:
            return body
        wanted += size - len(body)
    raise ValueError(f"no body of {size} bytes in {dialect}")


def _translated(document: dict[str, Any], dialect: str) -> bytes:
    if dialect == CHAT:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    if dialect == "openai_completions":
        prompt = "\n\n".join(message["content"] for message in document["messages"])
        return encode_json(
            {"model": document["model"], "prompt": prompt, "stream": document["stream"], "max_tokens": 64}
        )
    return encode_json(DIALECTS[dialect].render_request(DIALECTS[CHAT].parse_request(document)))
