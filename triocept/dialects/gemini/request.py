"""Requests of generateContent.

Rules:

1. The path says the model and whether a stream is wanted. The document that is sent to a provider names its model too
   (`GenerateContentRequest` has such a field), so that it can be read without its path.
2. `extra` mirrors the document: what is left of `generationConfig` and `toolConfig` is under their names.
3. One candidate only: `candidateCount` above 1 is refused.
4. From another dialect: a tool choice is written only with functions, for it is refused without.
"""

from __future__ import annotations

from ..._canonical.content import Json, Message
from ..._canonical.memory import Memory
from ..._canonical.request import Request, ToolChoice
from ...errors import DialectError
from .._fields import merged
from .._refusals import refuse_token_ids
from ..base import Target
from .config import CONFIG, parse_config, render_config
from .fields import ProtoFields
from .messages import parse_content, parse_system, parted, render_messages
from .names import NAME
from .pairing import Pairing
from .paths import bare_model, full_model
from .tools import parse_choice, parse_tool, render_choice, render_tools

__all__ = ["parse_request", "read_request", "render_request"]


def parse_request(document: Json, target: Target, memory: Memory | None = None) -> Request:
    """The request that an agent sent.

    Raises:
        DialectError: with the path in the document.
    """
    return read_request(ProtoFields(document), target, memory or Memory())


def read_request(fields: ProtoFields, target: Target, memory: Memory) -> Request:
    """The request in these fields: a document's, or those of a request inside one."""
    named = fields.text("model")
    model = target.model or bare_model(named or "")
    if not model:
        raise DialectError("is missing", path=fields.at("model"))
    messages = _parse_messages(fields, memory)
    tools = tuple(tool for several in fields.read("tools", memory, parse_tool) for tool in several)
    sampling, ask, shape = parse_config(fields)
    return Request(
        dialect=NAME,
        model=model,
        messages=messages,
        tools=tools,
        tool_choice=parse_choice(fields),
        stream=target.stream or False,
        sampling=sampling,
        reasoning=ask,
        output_format=shape,
        framing="json_array" if target.array else "sse",
        extra=fields.rest(),
    )


def render_request(request: Request) -> Json:
    """The document that asks a provider for `request`.

    Raises:
        DialectError: its prompt is token ids, which only completions can say.
    """
    refuse_token_ids(request.messages)
    own = request.dialect == NAME
    system, contents = render_messages(request.messages, own=own)
    document: dict[str, Json] = {"model": full_model(request.model), "contents": contents}
    if system is not None:
        document["systemInstruction"] = system
    tools = render_tools(request.tools, own=own)
    if tools:
        document["tools"] = tools
    if request.tool_choice is not None and (tools or own):
        document["toolConfig"] = _render_choice(request.tool_choice, own=own)
    config = render_config(request, own=own)
    if config:
        document[CONFIG] = config
    return merged(document, request.extra) if own and request.extra else document


def _parse_messages(fields: ProtoFields, memory: Memory) -> tuple[Message, ...]:
    system = parse_system(fields.take("systemInstruction"), fields.at("systemInstruction"))
    if fields.peek("contents") is None:
        raise DialectError("is missing", path=fields.at("contents"))
    pairing = Pairing()
    messages = [
        message
        for content in fields.read("contents", memory, parse_content)
        for message in parted(pairing.pair(content))
    ]
    if not messages:
        raise DialectError("must not be empty", path=fields.at("contents"))
    return (*system, *messages)


def _render_choice(choice: ToolChoice, *, own: bool) -> Json:
    return {"functionCallingConfig": render_choice(choice, own=own)}
