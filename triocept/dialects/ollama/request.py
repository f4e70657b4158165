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

from collections.abc import Mapping, Sequence

from ..._canonical.content import Json, Message
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool
from ...errors import DialectError
from .._documents import Fields, kind_of, known_of, merged
from .._portable import effort_for, portable, refuse_token_ids
from ..base import HERE, Target
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
    offered = request.tools if same_dialect else _offered(request)
    tools = [wire for tool in offered if (wire := render_tool(tool, same_dialect=same_dialect)) is not None]
    if tools:
        document["tools"] = tools
    if options := _render_options(request.sampling):
        document["options"] = options
    if request.output_format is not None:
        shape = request.output_format
        document["format"] = shape.schema or {} if shape.kind == "json_schema" else "json"
    think = _render_think(request.reasoning)
    if think is not None:
        document["think"] = think
    return merged(document, request.extra) if same_dialect and request.extra else document


def _parse(document: Json, memory: Memory) -> Request:
    fields = Fields(document)
    model = fields.need_text("model")
    if fields.peek("messages") is None:
        raise DialectError("is missing", path="messages")
    messages = paired(memory.read(NAME, "messages", fields.array("messages"), parse_message))
    if not messages:
        raise DialectError("must not be empty", path="messages")
    return Request(
        dialect=NAME,
        model=model,
        messages=messages,
        tools=memory.read(NAME, "tools", fields.array("tools"), parse_tool),
        stream=_streams(fields.flag("stream")),
        sampling=_parse_options(fields),
        reasoning=_parse_think(fields),
        output_format=_parse_format(fields),
        extra=fields.rest(),
    )


def _streams(said: Json) -> bool:
    return said is not False


def _parse_options(fields: Fields) -> Sampling:
    options = fields.object("options")
    if options is None:
        return Sampling()
    cap = options.integer(_CAP)
    stop = (options.need_text("stop"),) if isinstance(options.peek("stop"), str) else options.texts("stop")
    sampling = Sampling(
        max_output_tokens=cap if cap is None or cap >= 0 else None,
        temperature=options.number("temperature"),
        top_p=options.number("top_p"),
        top_k=options.integer("top_k"),
        stop=stop,
        seed=options.integer("seed"),
        presence_penalty=options.number("presence_penalty"),
        frequency_penalty=options.number("frequency_penalty"),
    )
    if cap is not None and cap < 0:
        options.keep(_CAP, cap)
    fields.keep("options", options.rest())
    return sampling


def _render_options(sampling: Sampling) -> dict[str, Json]:
    return known_of(
        {
            _CAP: sampling.max_output_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "stop": list(sampling.stop) or None,
            "seed": sampling.seed,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
    )


def _parse_think(fields: Fields) -> ReasoningAsk | None:
    think = fields.take("think")
    if think is None or isinstance(think, bool):
        return None if think is None else ReasoningAsk(effort=_FLAGS[think])
    if not isinstance(think, str):
        raise DialectError(f"must be a boolean or a string, not {kind_of(think)}", path="think")
    return ReasoningAsk(effort=think) if think else None


def _render_think(ask: ReasoningAsk | None) -> Json:
    effort = ask.effort if ask is not None and ask.effort in _THOUGHTS else effort_for(ask)
    return _THOUGHTS.get(effort or "", _EFFORTS.get(effort or "", effort))


def _parse_format(fields: Fields) -> OutputFormat | None:
    shape = fields.take("format")
    if shape is None or shape == "":
        return None
    if shape == "json":
        return OutputFormat(kind="json_object")
    if not isinstance(shape, dict):
        raise DialectError("must be 'json' or a JSON Schema", path="format")
    return OutputFormat(kind="json_schema", schema=shape)


def _offered(request: Request) -> Sequence[Tool]:
    choice = request.tool_choice
    if choice is None or choice.mode in ("auto", "required"):
        return request.tools
    return [tool for tool in request.tools if choice.mode == "tool" and tool.name == choice.name]
