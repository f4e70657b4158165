"""Make readable texts of messages and their parts, and of JSON values such as a call's arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from .._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)

_NAME = re.compile(r"\S*( v?\d[\d.]*(?=\s|$))?")
_encode = msgspec.json.Encoder(order="deterministic").encode


def text_of(message: Message) -> str:
    return "\n".join(texts_of(message))


def texts_of(message: Message) -> list[str]:
    """Return a text for each part of a message.

    The text of a tool call consists of its name and arguments. The text of media consists of their kind and name. The
    text of an opaque part is its JSON.
    """
    return [_text(part) for part in message.content]


def _text(part: Part) -> str:
    match part:
        case Text(text=text) | RefusalText(text=text) | Reasoning(text=text):
            return text
        case ToolCall(name=name, arguments=arguments):
            return f"{name}({arguments})"
        case ToolResult(content=content):
            return "\n".join(map(_text, content))
        case Media():
            return f"[{part.kind}: {part.name or part.url or part.media_type or 'inline'}]"
        case Opaque(raw=raw):
            return _encode(raw).decode()


def agent_name(user_agent: str | None) -> str:
    """Return the name and version in a User-Agent header, without the platform: `OpenAI/JS 6.26.0`.

    Return an empty text if `user_agent` is None. A space may separate the name and the version, as in OpenAI's SDKs.
    """
    found = _NAME.match(user_agent or "")
    return found[0] if found is not None else ""


def task_name(metadata: Mapping[str, Json]) -> str:
    """Return the id of the task of a fleet's rollout, with the number of the sample if this is not 0: `dates/1`.

    Return an empty text for a rollout that belongs to no fleet.
    """
    match metadata.get("fleet"):
        case {"task": str() as task, **more}:
            return f"{task}/{more['sample']}" if more.get("sample") else task
    return ""


def texts_in(value: Json) -> Iterator[str]:
    """Yield all strings in a JSON value, at any depth, except the names of members."""
    ahead = [value]
    while ahead:
        match ahead.pop():
            case str(text):
                yield text
            case dict(members):
                ahead.extend(members.values())
            case list(items):
                ahead.extend(items)
