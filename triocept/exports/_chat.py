"""Convert conversations to messages in the form of OpenAI's chat completions, which every trainer can read.

Rules:

1. Results of tools are separate messages. If a text was sent together with results, the results are written before this
   text, because chat templates need results directly after their calls. (In Anthropic's wire format, results are parts
   of the user's message.)
2. The role `developer` becomes `system`, because chat templates do not support `developer`.
3. The model's texts in a message are joined unchanged. Texts in a message to the model are joined with an empty line.
4. A call of a free-text tool becomes a function call with one string argument, `input`. The dialects that have no
   free-text tools convert such a call in the same way. The arguments of any other call are written as the model wrote
   them, even if they are not JSON.
5. Content that cannot be expressed in chat completions is counted in `losses`.
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
from ._shared import Losses, Lost


def answer_of(response: Response) -> Message:
    return Message("assistant", tuple(response.content))


@dataclass(frozen=True)
class Chat:
    """A writer of messages in the form of chat completions; `losses` counts content that this form cannot express.

    Args:
        media: if True, images are written as parts of the content.
        reasoning: if True, reasoning is written as `reasoning_content`.
        errors: if True, a tool result that is an error has the field `is_error`.
    """

    losses: Losses
    media: bool = False
    reasoning: bool = True
    errors: bool = True
    _known: dict[bytes, list[dict[str, Json]]] = field(default_factory=dict)
    """Cache of JSON definitions of tools, since most requests of an agent have equal tools. The key is the encoded
    tools of a request."""

    def tools(self, tools: tuple[Tool, ...]) -> list[dict[str, Json]]:
        key = encode_json(tools)
        if key not in self._known:
            self._known[key] = chat_tools(tools, self.losses)
        return self._known[key]

    def messages(self, messages: Iterable[Message]) -> list[dict[str, Json]]:
        return [document for message in messages for document in self.message(message)]

    def message(self, message: Message) -> list[dict[str, Json]]:
        """Return `message` as a list of JSON messages: one for each tool result, then one for all other content."""
        documents: list[dict[str, Json]] = []
        for result in message.tool_results:
            document: dict[str, Json] = {
                "role": "tool",
                "tool_call_id": result.id,
                "content": input_text(result.content),
            }
            if result.name is not None:
                document["name"] = result.name
            if result.is_error and self.errors:
                document["is_error"] = True
            elif result.is_error:
                self.losses.add(Lost.MARKS_OF_ERRORS)
            self.losses.add(Lost.MEDIA, sum(isinstance(part, Media) for part in result.content))
            self.losses.add(Lost.OPAQUE, sum(isinstance(part, Opaque) for part in result.content))
            documents.append(document)
        rest = [part for part in message.content if not isinstance(part, ToolResult)]
        if rest or not documents or message.role == "assistant":
            self._count(rest)
        if message.role == "assistant":
            documents.append(self._answer(rest))
        elif rest or not documents:
            content: Json = input_text(rest)
            if self.media and any(isinstance(part, Media) for part in rest):
                content = [found for part in rest if (found := _content_part(part)) is not None]
            role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
            documents.append({"role": role, "content": content})
        return documents

    def _answer(self, parts: Sequence[Part]) -> dict[str, Json]:
        text = "".join(part.text for part in parts if isinstance(part, Text | RefusalText))
        document: dict[str, Json] = {"role": "assistant", "content": text}
        thought = "".join(part.text for part in parts if isinstance(part, Reasoning))
        if thought and self.reasoning:
            document["reasoning_content"] = thought
        calls = []
        for call in (part for part in parts if isinstance(part, ToolCall)):
            arguments = call.arguments or "{}"
            if call.kind != "json":
                arguments = encode_json(object_arguments(call, self.losses)).decode()
            function = {"name": call.name, "arguments": arguments}
            calls.append({"id": call.id, "type": "function", "function": function})
        if calls:
            document["tool_calls"] = calls
        return document

    def _count(self, parts: Sequence[Part]) -> None:
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        if not self.reasoning:
            self.losses.add(Lost.REASONING, sum(bool(part.text) for part in thoughts))
        self.losses.add(Lost.BLOBS, sum(len(part.blobs) for part in thoughts))
        self.losses.add(Lost.OPAQUE, sum(isinstance(part, Opaque) for part in parts))
        self.losses.add(Lost.REFUSALS, sum(isinstance(part, RefusalText) for part in parts))
        for part in parts:
            if isinstance(part, Media) and not (self.media and _content_part(part)):
                self.losses.add(Lost.MEDIA)


def input_text(parts: Iterable[Part]) -> str:
    return "\n\n".join(part.text for part in parts if isinstance(part, Text | RefusalText) and part.text)


def _content_part(part: Part) -> dict[str, Json] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Media(kind="image"):
            return {"type": "image_url", "image_url": {"url": data_url(part) or ""}}
        case _:
            return None


def chat_tools(tools: Iterable[Tool], losses: Losses) -> list[dict[str, Json]]:
    """Return the JSON definitions of the tools as functions. Tools that a provider runs itself are left out."""
    documents = []
    for tool in tools:
        if tool.kind == "server":
            losses.add(Lost.SERVER_TOOLS)
            continue
        function: dict[str, Json] = {"name": tool.name, "description": tool.description or ""}
        function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
        if tool.kind == "custom":
            losses.add(Lost.CUSTOM_TOOLS)
            function["parameters"] = CUSTOM_SCHEMA
        if tool.strict is not None:
            function["strict"] = tool.strict
        documents.append({"type": "function", "function": function})
    return documents


def object_arguments(call: ToolCall, losses: Losses) -> dict[str, Json]:
    """Return the arguments of a tool call as a dict.

    If the tool takes free text, the dict is `{"input": …}`. If the arguments should be JSON, but are not a JSON object,
    it is `{"_raw": …}`.
    """
    if call.kind == "text":
        losses.add(Lost.CUSTOM_CALLS)
        return {"input": call.arguments}
    value = _decoded(call.arguments or "{}")
    if isinstance(value, dict):
        return value
    losses.add(Lost.FREE_ARGUMENTS)
    return {"_raw": call.arguments}


def is_object(text: str) -> bool:
    return isinstance(_decoded(text), dict)


def _decoded(text: str) -> Json:
    try:
        return decode_json(text)
    except DialectError:
        return None
