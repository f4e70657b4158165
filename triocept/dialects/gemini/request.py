"""Requests of generateContent.

Rules:

1. The path contains the model, and requests a stream. A document for a provider contains its model, too
   (`GenerateContentRequest` has such a field), so that it can be read without its path.
2. `extra` mirrors the document: unknown fields of `generationConfig` and `toolConfig` are under these names.
3. Only one candidate is supported: `candidateCount` above 1 is refused.
4. From another dialect: a tool choice is written only with functions, for Gemini refuses it without them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..._canonical.content import Json, Message
from ..._canonical.memory import Memory
from ..._canonical.request import Request, ToolChoice
from ...errors import DialectError
from .._documents import merged
from .._pairing import Pairing
from .._portable import portable, refuse_token_ids
from ..base import HERE, Target
from .config import CONFIG, parse_config, render_config
from .fields import ProtoFields
from .messages import parse_content, parse_system, parted, render_messages
from .names import NAME
from .paths import bare_model, full_model
from .tools import parse_choice, parse_tool, render_choice, render_tools


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Return the request that an agent sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
    """
    memory = memory or Memory()

    def read(contents: list[Json]) -> tuple[Message, ...]:
        return _messages(memory.read(NAME, "contents", contents, parse_content))

    def parse(whole: Json) -> tuple[Request, int]:
        return _parse(ProtoFields(whole), memory)

    return _aimed(memory.request(document, "contents", parse, read, NAME), target, "model")


def read_request(fields: ProtoFields, target: Target) -> Request:
    """Return the request in these fields: of a document, or of a request inside one."""
    return _aimed(_parse(fields, Memory())[0], target, fields.at("model"))


def _parse(fields: ProtoFields, memory: Memory) -> tuple[Request, int]:
    """Return the request in the document alone, and the number of messages from the system instruction."""
    named = fields.text("model")
    system = parse_system(fields.take("systemInstruction"), fields.at("systemInstruction"))
    if fields.peek("contents") is None:
        raise DialectError("is missing", path=fields.at("contents"))
    path = fields.at("contents")
    messages = _messages(fields.read("contents", memory, parse_content))
    if not messages:
        raise DialectError("must not be empty", path=path)
    tools = tuple(tool for several in fields.read("tools", memory, parse_tool) for tool in several)
    sampling, ask, shape = parse_config(fields)
    request = Request(
        dialect=NAME,
        model=bare_model(named or ""),
        messages=(*system, *messages),
        tools=tools,
        tool_choice=parse_choice(fields),
        sampling=sampling,
        reasoning=ask,
        output_format=shape,
        extra=fields.rest(),
    )
    return request, len(system)


def _aimed(request: Request, target: Target, path: str) -> Request:
    """Return the request with the facts from the path of the call."""
    model = target.model or request.model
    if not model:
        raise DialectError("is missing", path=path)
    return msgspec.structs.replace(
        request,
        model=model,
        stream=target.stream or False,
        framing="json_array" if target.array else "sse",
    )


def _messages(contents: Iterable[Message]) -> tuple[Message, ...]:
    pairing = Pairing(lambda identity: {"functionResponse": {"id": identity}})
    return tuple([message for content in contents for message in parted(pairing.pair(content))])


def render_request(request: Request) -> Json:
    """Return the document that sends `request` to a provider.

    Raises:
        DialectError: the prompt is token ids, which only the completions dialect can express.
    """
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    messages = request.messages if same_dialect else portable(request.messages)
    system, contents = render_messages(messages, same_dialect=same_dialect)
    document: dict[str, Json] = {"model": full_model(request.model), "contents": contents}
    if system is not None:
        document["systemInstruction"] = system
    tools = render_tools(request.tools, same_dialect=same_dialect)
    if tools:
        document["tools"] = tools
    if request.tool_choice is not None and (tools or same_dialect):
        document["toolConfig"] = _render_choice(request.tool_choice, same_dialect=same_dialect)
    config = render_config(request, same_dialect=same_dialect)
    if config:
        document[CONFIG] = config
    return merged(document, request.extra) if same_dialect and request.extra else document


def _render_choice(choice: ToolChoice, *, same_dialect: bool) -> Json:
    return {"functionCallingConfig": render_choice(choice, same_dialect=same_dialect)}
