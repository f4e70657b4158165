"""Requests of `/api/chat`.

Rules:

1. An answer is a stream unless `stream` is false.
2. `options` holds the sampling. Its other fields stay in `extra["options"]`; `keep_alive`, `truncate`, `logprobs` and
   all others stay in `extra` under their names. A `num_predict` below 0 means no limit, and stays in
   `extra["options"]`, too.
3. `think` is a flag or an effort; the flag is "adaptive", or "none".
4. The wire has no tool choice. From another dialect: "none" removes the tools, and a single tool removes all others. A
   required call cannot be expressed, and is left out: the request works without it.
5. From another dialect, efforts become the three that the wire accepts.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..._canonical.content import Json, Message
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, ReasoningAsk, Request
from ...errors import DialectError
from .._documents import Fields, kind_of, known_of, merged, need_items
from .._portable import effort_for, portable, refuse_token_ids
from ..base import HERE, Target
from ..openai_chat.request import parse_sampling, render_sampling
from .messages import NAME, paired, parse_message, parse_tool, render_messages, render_tool

_CAP = "num_predict"
_FLAGS = {True: "adaptive", False: "none"}
_THOUGHTS: dict[str, Json] = {"adaptive": True, "none": False}
_EFFORTS = {"minimal": "low", "xhigh": "high", "max": "high"}


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Return the request that an agent sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
    """
    memory = memory or Memory()

    def read(messages: list[Json]) -> tuple[Message, ...]:
        return paired(memory.read(NAME, "messages", messages, parse_message))

    return memory.request(document, "messages", lambda whole: (_parse(whole, memory), 0), read, NAME)


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Return True if document and request agree on whether the answer is a stream."""
    return _streams(document.get("stream")) == request.stream


def render_request(request: Request) -> Json:
    """Return the document that sends `request` to a provider.

    Raises:
        DialectError: the prompt is token ids, which only the completions dialect can express.
    """
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    messages = request.messages if same_dialect else portable(request.messages)
    document: dict[str, Json] = {
        "model": request.model,
        "messages": render_messages(messages, same_dialect=same_dialect),
        "stream": request.stream,
    }
    choice, offered = request.tool_choice, request.tools
    if not same_dialect and choice is not None and choice.mode not in ("auto", "required"):
        offered = tuple(tool for tool in offered if choice.mode == "tool" and tool.name == choice.name)
    tools = [wire for tool in offered if (wire := render_tool(tool, same_dialect=same_dialect)) is not None]
    if tools:
        document["tools"] = tools
    sampling = request.sampling
    cap = known_of({_CAP: sampling.max_output_tokens})
    if options := {**cap, **render_sampling(sampling, same_dialect=True)}:
        document["options"] = options
    if request.output_format is not None:
        shape = request.output_format
        document["format"] = shape.schema or {} if shape.kind == "json_schema" else "json"
    ask = request.reasoning
    effort = ask.effort if ask is not None and ask.effort in _THOUGHTS else effort_for(ask)
    if effort is not None:
        document["think"] = _THOUGHTS.get(effort, _EFFORTS.get(effort, effort))
    return merged(document, request.extra) if same_dialect and request.extra else document


def _parse(document: Json, memory: Memory) -> Request:
    fields = Fields(document)
    model = fields.need_text("model")
    messages = paired(memory.read(NAME, "messages", need_items(fields, "messages"), parse_message))
    tools = memory.read(NAME, "tools", fields.array("tools"), parse_tool)
    stream, options = _streams(fields.flag("stream")), fields.object("options") or Fields({})
    cap = options.integer(_CAP)
    sampling = parse_sampling(options, cap if cap is None or cap >= 0 else None)
    if cap is not None and cap < 0:
        options.keep(_CAP, cap)
    fields.keep("options", options.rest())
    return Request(
        dialect=NAME,
        model=model,
        messages=messages,
        tools=tools,
        stream=stream,
        sampling=sampling,
        reasoning=_parse_think(fields),
        output_format=_parse_format(fields),
        extra=fields.rest(),
    )


def _streams(said: Json) -> bool:
    return said is not False


def _parse_think(fields: Fields) -> ReasoningAsk | None:
    think = fields.take("think")
    if think is None or isinstance(think, bool):
        return None if think is None else ReasoningAsk(effort=_FLAGS[think])
    if not isinstance(think, str):
        raise DialectError(f"must be a boolean or a string, not {kind_of(think)}", path="think")
    return ReasoningAsk(effort=think) if think else None


def _parse_format(fields: Fields) -> OutputFormat | None:
    shape = fields.take("format")
    if shape is None or shape == "":
        return None
    if shape == "json":
        return OutputFormat(kind="json_object")
    if not isinstance(shape, dict):
        raise DialectError("must be 'json' or a JSON Schema", path="format")
    return OutputFormat(kind="json_schema", schema=shape)
