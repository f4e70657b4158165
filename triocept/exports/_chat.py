"""Conversations in the form of chat completions, which every trainer reads.

Rules:

1. Results of tools are separate messages, in front of the text that came with them. Anthropic's wire packs them into
   the user's message, and chat templates need them directly after their calls.
2. `developer` becomes `system`: templates support no other name.
3. The model's text pieces are joined unchanged; text pieces of its input are joined with an empty line.
4. A call of a free-text tool becomes a function call with one string, `input`, as in every dialect without free-text
   tools. Other arguments are the model's text, even where it is not JSON.
5. Content without a place is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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
from .._canonical.request import Tool
from .._canonical.response import Response
from ..dialects.kit import CUSTOM_SCHEMA, data_url, decode_json, encode_json
from ..errors import DialectError
from . import _losses as lost
from ._losses import Losses


def answer_of(response: Response) -> Message:
    """Return the answer as a message of the conversation."""
    return Message("assistant", tuple(response.content))


@dataclass(frozen=True)
class Chat:
    """A writer of messages in the form of chat completions.

    Args:
        losses: counts content without a place.
        media: True: images are parts of the content; False: they are left out.
        reasoning: True: reasoning is written as `reasoning_content`; False: it is left out.
        errors: True: a result that is an error has `is_error`; False: the mark is left out.
    """

    losses: Losses
    media: bool = False
    reasoning: bool = True
    errors: bool = True
    _known: dict[bytes, list[dict[str, Json]]] = field(default_factory=dict)
    """Documents of the tools, by a request's tools. Most calls of an agent offer equal tools."""

    def tools(self, tools: tuple[Tool, ...]) -> list[dict[str, Json]]:
        """Return the tools as functions, without the tools that a provider runs."""
        key = encode_json(tools)
        if key not in self._known:
            self._known[key] = chat_tools(tools, self.losses)
        return self._known[key]

    def messages(self, messages: Iterable[Message]) -> list[dict[str, Json]]:
        """Return the documents of a conversation."""
        return [document for message in messages for document in self.message(message)]

    def message(self, message: Message) -> list[dict[str, Json]]:
        """Return the documents of one message: its results, then its other content."""
        documents = [self._result(result) for result in message.tool_results]
        rest = [part for part in message.content if not isinstance(part, ToolResult)]
        if message.role == "assistant":
            return [*documents, self._assistant(rest)]
        if rest or not documents:
            role = (
                "system"
                if message.role == "developer"
                else "user"
                if message.role == "tool"
                else message.role
            )
            documents.append({"role": role, "content": self._content(rest)})
        return documents

    def _assistant(self, parts: Sequence[Part]) -> dict[str, Json]:
        calls = [part for part in parts if isinstance(part, ToolCall)]
        text = "".join(part.text for part in parts if isinstance(part, Text | RefusalText))
        document: dict[str, Json] = {"role": "assistant", "content": text}
        thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
        if thought and self.reasoning:
            document["reasoning_content"] = thought
        if calls:
            document["tool_calls"] = [self._call(call) for call in calls]
        self._count(parts)
        return document

    def _call(self, call: ToolCall) -> dict[str, Json]:
        function = {"name": call.name, "arguments": self._arguments(call)}
        return {"id": call.id, "type": "function", "function": function}

    def _arguments(self, call: ToolCall) -> str:
        if call.kind == "json":
            return call.arguments or "{}"
        return encode_json(object_arguments(call, self.losses)).decode()

    def _result(self, result: ToolResult) -> dict[str, Json]:
        document: dict[str, Json] = {"role": "tool", "tool_call_id": result.id}
        document["content"] = told_text(result.content)
        if result.name is not None:
            document["name"] = result.name
        if result.is_error and self.errors:
            document["is_error"] = True
        elif result.is_error:
            self.losses.add(lost.MARKS_OF_ERRORS)
        self.losses.add(lost.MEDIA, sum(isinstance(part, Media) for part in result.content))
        self.losses.add(lost.OPAQUE, sum(isinstance(part, Opaque) for part in result.content))
        return document

    def _content(self, parts: Sequence[Part]) -> Json:
        self._count(parts)
        if not self.media or not any(isinstance(part, Media) for part in parts):
            return told_text(parts)
        return [document for part in parts if (document := _content_part(part)) is not None]

    def _count(self, parts: Sequence[Part]) -> None:
        """Count the parts that are not written."""
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        if not self.reasoning:
            self.losses.add(lost.REASONING, sum(bool(part.text) for part in thoughts))
        self.losses.add(lost.BLOBS, sum(len(part.blobs) for part in thoughts))
        self.losses.add(lost.OPAQUE, sum(isinstance(part, Opaque) for part in parts))
        self.losses.add(lost.REFUSALS, sum(isinstance(part, RefusalText) for part in parts))
        unseen = [
            part for part in parts if isinstance(part, Media) and not (self.media and _content_part(part))
        ]
        self.losses.add(lost.MEDIA, len(unseen))


def told_text(parts: Iterable[Part]) -> str:
    """Return the text of the model's input parts."""
    return "\n\n".join(part.text for part in parts if isinstance(part, Text | RefusalText) and part.text)


def _content_part(part: Part) -> dict[str, Json] | None:
    """Return a part of a user's content (a text or an image), or None if it has no place."""
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Media(kind="image"):
            return {"type": "image_url", "image_url": {"url": data_url(part) or ""}}
        case _:
            return None


def chat_tools(tools: Iterable[Tool], losses: Losses) -> list[dict[str, Json]]:
    """Return the tools as functions, without the tools that a provider runs."""
    documents = []
    for tool in tools:
        if tool.kind == "server":
            losses.add(lost.SERVER_TOOLS)
            continue
        function: dict[str, Json] = {"name": tool.name, "description": tool.description or ""}
        function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
        if tool.kind == "custom":
            losses.add(lost.CUSTOM_TOOLS)
            function["parameters"] = CUSTOM_SCHEMA
        if tool.strict is not None:
            function["strict"] = tool.strict
        documents.append({"type": "function", "function": function})
    return documents


def object_arguments(call: ToolCall, losses: Losses) -> dict[str, Json]:
    """Return a call's arguments as an object: free text as `{"input": …}`, any other non-object as `{"_raw": …}`."""
    if call.kind == "text":
        losses.add(lost.CUSTOM_CALLS)
        return {"input": call.arguments}
    value = _decoded(call.arguments or "{}")
    if isinstance(value, dict):
        return value
    losses.add(lost.FREE_ARGUMENTS)
    return {"_raw": call.arguments}


def is_object(text: str) -> bool:
    """Return True if `text` is a JSON object."""
    return isinstance(_decoded(text), dict)


def _decoded(text: str) -> Json:
    try:
        return decode_json(text)
    except DialectError:
        return None
