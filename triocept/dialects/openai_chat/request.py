"""Parse and render requests of chat completions.

The other OpenAI dialects use this code for answer formats, sampling and `user`.

Rules:

1. `max_completion_tokens` takes precedence over `max_tokens`. A request that has only the old name, `max_tokens`, is
   also sent to a provider with the old name. To record this, `extra` contains the old name with the value null.
2. `extra` has the structure of the document: unknown fields of `stream_options` are in `extra["stream_options"]`.
3. The legacy fields `functions` and `function_call` are read as tools and tool choice.
4. Only one choice (answer) is supported; `n` above 1 is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from reprlib import repr as short

from ..._canonical.content import Json, Message
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling
from ...errors import DialectError
from .._documents import Fields, known_of, merged, need_items, present
from .._portable import effort_for, portable, refuse_token_ids
from ..base import HERE, Target
from .parts import NAME, parse_choice, parse_message, parse_tool, render_choice, render_messages, render_tool

_MAX, _OLD_MAX = "max_completion_tokens", "max_tokens"


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    memory = memory or Memory()
    read = partial(memory.read, NAME, "messages", parse=parse_message)
    return memory.request(document, "messages", partial(_parse, memory=memory, read=read), read, NAME)


def _parse(
    document: Json, memory: Memory, read: Callable[[list[Json]], tuple[Message, ...]]
) -> tuple[Request, int]:
    fields = Fields(document)
    model = fields.need_text("model")
    messages = read(need_items(fields, "messages"))
    if (fields.integer("n") or 1) > 1:
        raise DialectError("must be 1: only one choice is supported", path="n")
    stream = fields.flag("stream") or False
    tools = memory.read(NAME, "tools", fields.array("tools"), parse_tool)
    if legacy := fields.items("functions"):
        old = [parse_tool({"type": "function", "function": item}, path) for path, item in legacy]
        tools = (*tools, *old)
    choice, old_choice = parse_choice(fields.take("tool_choice"), "tool_choice"), fields.take("function_call")
    if choice is None and old_choice is not None:
        named = isinstance(old_choice, str)
        old_choice = old_choice if named else {"type": "function", "function": old_choice}
        choice = parse_choice(old_choice, "function_call")
    parallel, include_usage = fields.flag("parallel_tool_calls"), parse_include_usage(fields)
    cap, old_cap = fields.integer(_MAX), fields.integer(_OLD_MAX)
    if cap is None and old_cap is not None:
        fields.mark(_OLD_MAX)
        cap = old_cap
    sampling, effort = parse_sampling(fields, cap), fields.text("reasoning_effort")
    request = Request(
        dialect=NAME,
        model=model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        stream=stream,
        include_usage=include_usage,
        sampling=sampling,
        reasoning=ReasoningAsk(effort=effort) if effort else None,
        output_format=read_format(fields, "response_format", "json_schema"),
        user=fields.text("user"),
        extra=fields.rest(),
    )
    return request, 0


def render_request(request: Request) -> Json:
    """Convert a request into the JSON body for a provider; see `Dialect.render_request`."""
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    messages = request.messages if same_dialect else portable(request.messages)
    document: dict[str, Json] = {
        "model": request.model,
        "messages": render_messages(messages, same_dialect=same_dialect),
    }
    tools = present([render_tool(tool, same_dialect=same_dialect) for tool in request.tools])
    if tools:
        document["tools"] = tools
    if tools or same_dialect:  # OpenAI refuses both without tools
        if (choice := request.tool_choice) is not None:
            named = {"type": "function", "function": {"name": choice.name or ""}}
            document["tool_choice"] = render_choice(choice, named, same_dialect=same_dialect)
        if request.parallel_tool_calls is not None:
            document["parallel_tool_calls"] = request.parallel_tool_calls
    extra = dict(request.extra or {}) if same_dialect else {}
    if request.sampling.max_output_tokens is not None:
        document[_OLD_MAX if _OLD_MAX in extra else _MAX] = request.sampling.max_output_tokens
    document |= render_sampling(request.sampling, same_dialect=same_dialect)
    extra.pop(_OLD_MAX, None)
    document |= render_stream(request)
    if effort := effort_for(request.reasoning):
        document["reasoning_effort"] = effort
    if request.output_format:
        document["response_format"] = render_format(request.output_format, same_dialect=same_dialect)
    document |= render_user(request, same_dialect=same_dialect)
    return merged(document, extra) if extra else document


_KINDS = ("text", "json_object", "json_schema", "structural_tag", "grammar", "regex", "ebnf")
"""The types of answer formats: three that OpenAI has, `structural_tag` of vLLM and SGLang, and `grammar`, `regex`,
`ebnf` of other servers."""


def read_format(fields: Fields, name: str, inside: str | None) -> OutputFormat | None:
    """Convert the field `name` into an `OutputFormat`. If its type is an extension of other servers, return None.

    In this case, the field stays unread. `inside` is the name of the inner field that contains the schema and the
    schema's options. `inside` is None if the field itself contains the schema and its options. Raise `DialectError` if
    the type is unknown.
    """
    form = fields.object(name)
    if form is None:
        return None
    kind = form.need_text("type")
    if kind == "json_object":
        return OutputFormat(kind="json_object", extra=form.rest())
    if kind not in _KINDS:
        raise DialectError(
            f"unknown format {short(kind)}; the formats are {', '.join(_KINDS)}", path=form.at("type")
        )
    if kind != "json_schema":
        rest = {"type": kind, **(form.rest() or {})}
        fields.keep(name, None if rest == {"type": "text"} else rest)
        return None
    inner = form if inside is None else form.need_object(inside)
    title, schema, strict = inner.text("name"), inner.mapping("schema"), inner.flag("strict")
    if inside is not None:
        form.keep(inside, inner.rest())
    return OutputFormat(kind="json_schema", name=title, schema=schema, strict=strict, extra=form.rest())


def render_format(output: OutputFormat, *, same_dialect: bool) -> Json:
    document: dict[str, Json] = {"type": output.kind}
    if output.kind == "json_schema":
        # OpenAI requires a name.
        inner = {"name": output.name or "answer", "schema": output.schema, "strict": output.strict}
        document["json_schema"] = known_of(inner)
    return merged(document, output.extra) if same_dialect and output.extra else document


_MAX_USER = 64  # characters: OpenAI refuses a longer `user`


def parse_sampling(fields: Fields, cap: int | None) -> Sampling:
    """Read the sampling settings from the fields of a request. `cap` is the limit of output tokens.

    The caller must read this limit, because the name of its field differs between dialects.
    """
    return Sampling(
        max_output_tokens=cap,
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.integer("top_k"),
        stop=(fields.need_text("stop"),) if isinstance(fields.peek("stop"), str) else fields.texts("stop"),
        seed=fields.integer("seed"),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
    )


def render_sampling(sampling: Sampling, *, same_dialect: bool) -> dict[str, Json]:
    """Convert sampling settings into the fields of a request, without the limit of output tokens."""
    document: dict[str, Json] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k if same_dialect else None,  # OpenAI refuses it, vLLM accepts it
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    return known_of(document)


def parse_include_usage(fields: Fields) -> bool:
    options = fields.object("stream_options") or Fields({})
    include_usage = options.flag("include_usage")
    fields.keep("stream_options", options.rest())
    return include_usage or False


def render_stream(request: Request) -> dict[str, Json]:
    if not request.stream:
        return {}
    return {"stream": True, **({"stream_options": {"include_usage": True}} if request.include_usage else {})}


def render_user(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    fits = request.user is not None and (same_dialect or len(request.user) <= _MAX_USER)
    return {"user": request.user} if fits else {}
