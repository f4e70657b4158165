"""Requests of Responses.

Rules:

1. `extra` mirrors the document: unknown fields of `reasoning` and `text` are under these names, and so are `store`,
   `include`, `metadata` and all others.
2. `messages` holds the messages in the document; with `previous_response`, these are the new messages alone.
3. A frame of the websocket is a request, too: its `type` is dropped, its `generate` is kept.
4. The wire has no stop strings, seeds and penalties. If they came in this dialect (some servers support them), they
   are written again; those of other dialects are left out.
5. From another dialect, ids of calls are distinct.
6. OpenAI stores answers by default; for another dialect's request, `store` is off.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..._canonical.content import Json, Message
from ..._canonical.memory import Memory
from ..._canonical.request import ReasoningAsk, Request, Sampling
from ...errors import DialectError
from .._documents import Fields, merged
from .._efforts import effort_for
from .._ids import distinct_calls
from .._portable import refuse_token_ids
from ..base import HERE, Target
from ..openai_chat.sampling import parse_sampling, render_sampling, render_user
from .formats import parse_format, render_format
from .messages import parse_input, parse_instructions, render_input
from .names import NAME
from .namespaces import NO_NAMES, Names
from .tools import DECLARING, parse_choice, parse_tools, render_choice, render_tools

NOT_POSTED = frozenset({"type", "generate", "stream_id"})
"""Fields of a websocket's frames."""
_FRAME = "response.create"
_SAMPLING = ("temperature", "top_p")
_SOURCES = ("conversation", "prompt")  # other sources of a conversation, beside an earlier response


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Return the request that an agent sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
    """
    memory = memory or Memory()
    if not _is_list_alone(document):  # else the meaning of an item may depend on the rest, and the reverse
        return _parse(document, memory)[0]

    def read(items: list[Json]) -> tuple[Message, ...]:
        return parse_input(items, NO_NAMES, memory)

    return memory.request(document, "input", lambda whole: _parse(whole, memory), read, NAME)


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Return True if a provider accepts the document unchanged.

    Two kinds of documents are refused: documents that continue an answer of this endpoint, and frames of a websocket,
    which request a stream without a field for it.
    """
    if "previous_response_id" in document or document.get("type") == _FRAME:
        return False
    return bool(document.get("stream")) == request.stream


def _is_list_alone(document: Json) -> bool:
    """Return True if the input is a list that neither declares tools nor can name one in a namespace."""
    if not isinstance(document, dict) or not isinstance(items := document.get("input"), list):
        return False
    tools = document.get("tools")
    if isinstance(tools, list) and any(isinstance(tool, dict) and "tools" in tool for tool in tools):
        return False
    kinds = [item.get("type") for item in items if isinstance(item, dict)]
    return not any(kind in kinds for kind in DECLARING)


def _parse(document: Json, memory: Memory) -> tuple[Request, int]:
    fields = Fields(document)
    if fields.peek("type") == _FRAME:
        fields.take("type")
    model = fields.need_text("model")
    previous = fields.text("previous_response_id")
    value = _need_input(fields, goes_on=previous is not None)
    tools = parse_tools(fields, value, memory)
    messages = parse_input(value, Names(tools), memory)
    instructions = parse_instructions(fields.text("instructions"), memory)
    request = Request(
        dialect=NAME,
        model=model,
        messages=(*instructions, *messages),
        tools=tools,
        tool_choice=parse_choice(fields.take("tool_choice"), "tool_choice"),
        parallel_tool_calls=fields.flag("parallel_tool_calls"),
        stream=fields.flag("stream") or False,
        sampling=parse_sampling(fields, fields.integer("max_output_tokens")),
        reasoning=_parse_reasoning(fields),
        output_format=parse_format(fields),
        previous_response=previous,
        user=fields.text("user"),
        extra=fields.rest(),
    )
    return request, len(instructions)


def render_request(request: Request) -> Json:
    """Return the document that sends `request` to a provider.

    Raises:
        DialectError: the prompt is token ids, which only the completions dialect can express.
    """
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    messages = request.messages if same_dialect else distinct_calls(request.messages)
    instructions, items = render_input(messages, Names(request.tools), same_dialect=same_dialect)
    if not items and request.previous_response is None:
        items = [{"type": "message", "role": "user", "content": ""}]
    document: dict[str, Json] = {"model": request.model, "input": items}
    if instructions is not None:
        document["instructions"] = instructions
    tools = render_tools(request.tools, same_dialect=same_dialect)
    if tools:
        document["tools"] = tools
    if tools or same_dialect:  # OpenAI refuses both without tools
        if request.tool_choice is not None:
            document["tool_choice"] = render_choice(
                request.tool_choice, request.tools, same_dialect=same_dialect
            )
        if request.parallel_tool_calls is not None:
            document["parallel_tool_calls"] = request.parallel_tool_calls
    if request.previous_response is not None:
        document["previous_response_id"] = request.previous_response
    document |= _render_sampling(request.sampling, same_dialect=same_dialect)
    document |= _render_asks(request, same_dialect=same_dialect)
    if not same_dialect:
        document["store"] = False
    return merged(document, request.extra) if same_dialect and request.extra else document


def _need_input(fields: Fields, *, goes_on: bool) -> Json:
    goes_on = goes_on or any(fields.peek(name) is not None for name in _SOURCES)
    value = fields.take("input")
    if value is None and not goes_on:
        raise DialectError("is missing", path="input")
    if value == [] and not goes_on:
        raise DialectError("must not be empty", path="input")
    return [] if value is None else value


def _parse_reasoning(fields: Fields) -> ReasoningAsk | None:
    reasoning = fields.object("reasoning")
    if reasoning is None:
        return None
    effort = reasoning.text("effort")
    fields.keep("reasoning", reasoning.rest())
    return ReasoningAsk(effort=effort) if effort else None


def _render_sampling(sampling: Sampling, *, same_dialect: bool) -> dict[str, Json]:
    document = render_sampling(sampling, same_dialect=same_dialect)
    if not same_dialect:
        document = {name: value for name, value in document.items() if name in _SAMPLING}
    if sampling.max_output_tokens is not None:
        document["max_output_tokens"] = sampling.max_output_tokens
    return document


def _render_asks(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    document: dict[str, Json] = {"stream": True} if request.stream else {}
    effort = effort_for(request.reasoning)
    if effort:
        document["reasoning"] = {"effort": effort}
    if request.output_format:
        document["text"] = {"format": render_format(request.output_format, same_dialect=same_dialect)}
    return document | render_user(request, same_dialect=same_dialect)
