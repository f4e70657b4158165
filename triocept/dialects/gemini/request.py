"""Parse and render requests of generateContent: their paths, contents and `generationConfig`.

Rules:

1. The path, not the body, names the model and requests a stream. The body for a provider also names the model
   (`GenerateContentRequest` has such a field), so that the body can be parsed without the path.
2. `extra` has the structure of the document: unknown fields of `generationConfig` are in `extra["generationConfig"]`,
   and unknown fields of `toolConfig` are in `extra["toolConfig"]`.
3. Only one candidate is supported; `candidateCount` above 1 is refused.
4. A tool choice from another dialect is written only if the request offers functions, because Gemini refuses a choice
   without functions.

Contents and the system instruction:

1. System and developer messages at the start of the conversation are the `systemInstruction`. A later system message
   becomes a text of the user.
2. Tool results may come in a content of the role `user`, `function`, or `model` (from Antigravity). A content of the
   model that contains results is split into two messages, because no request may end with a message of the model.
3. A conversation from another dialect is adapted. Adjacent messages of one role are joined, with results first and the
   media of results after them, and the first content is the user's. Thoughts that Gemini did not sign, and empty texts,
   are left out. The signature of a tool call is written, because a program that forwards requests may have restored
   this signature.

`generationConfig` contains sampling, thinking and the format of the answer:

1. A thinking budget of 0 disables thinking; -1 lets the model choose. Further fields of `thinkingConfig` stay in
   `extra`.
2. `responseSchema` is converted to JSON Schema. The request keeps the original object, which is written again if the
   JSON Schema was not changed.
3. An effort from another dialect becomes a budget of at most 24,576 tokens, which the smallest models allow, or of -1.
   In this case, thoughts are requested, too. The effort "none" is left out, because most models refuse it. Penalties of
   0 from another dialect are left out, too.

The path and query of a call contain the model, and state if and how the answer is streamed:

1. The version at the start (`v1beta`, `v1`, `v1alpha`) is optional. The part
   `projects/…/locations/…/publishers/google`, which Vertex AI puts before the model, is optional, too.
2. In triocept, the name of a model has no prefix `models/`; the name of a tuned model has the prefix `tunedModels/`.
   Names in paths may be percent-encoded, including their slashes.
3. The query parameter `alt=sse` requests server-sent events. Without it, a stream is one JSON array.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as short
from typing import Literal
from urllib.parse import parse_qs, quote, unquote

import msgspec

from ..._canonical.content import Json, Media, Message, Reasoning, Role, Text, ToolCall, ToolResult
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling
from ...errors import DialectError
from .._calls import Pairing
from .._documents import known_of, merged, present, read_text
from .._portable import budget_for, portable, refuse_token_ids
from ..base import HERE, Target
from .parts import (
    NAME,
    UNSIGNED,
    ProtoFields,
    json_schema_of,
    parse_choice,
    parse_part,
    parse_tool,
    render_call,
    render_choice,
    render_part,
    render_reasoning,
    render_result,
    render_tools,
)


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Convert the JSON body of an agent's call into a `Request`; see `ParseRequest`."""
    memory = memory or Memory()

    def read(contents: list[Json]) -> tuple[Message, ...]:
        return _messages(memory.read(NAME, "contents", contents, parse_content))

    def parse(whole: Json) -> tuple[Request, int]:
        return _parse(ProtoFields(whole), memory)

    return _aimed(memory.request(document, "contents", parse, read, NAME), target, "model")


def read_request(fields: ProtoFields, target: Target) -> Request:
    """Convert the fields of a request into a `Request`. `fields` may be the fields of an object within a JSON body."""
    return _aimed(_parse(fields, Memory())[0], target, fields.at("model"))


def _parse(fields: ProtoFields, memory: Memory) -> tuple[Request, int]:
    """Return the request (without facts from the path), and the number of its messages from `systemInstruction`."""
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
    model = target.model or request.model
    if not model:
        raise DialectError("is missing", path=path)
    framing: Literal["json_array", "sse"] = "json_array" if target.array else "sse"
    return msgspec.structs.replace(request, model=model, stream=target.stream or False, framing=framing)


def _messages(contents: Iterable[Message]) -> tuple[Message, ...]:
    pairing = Pairing(lambda identity: {"functionResponse": {"id": identity}})
    return tuple([message for content in contents for message in parted(pairing.pair(content))])


def render_request(request: Request) -> Json:
    """Convert a request into the JSON body for a provider; see `Dialect.render_request`."""
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
        choice = render_choice(request.tool_choice, same_dialect=same_dialect)
        document["toolConfig"] = {"functionCallingConfig": choice}
    config = render_config(request, same_dialect=same_dialect)
    if config:
        document[CONFIG] = config
    return merged(document, request.extra) if same_dialect and request.extra else document


_ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "function": "tool", "system": "system"}
_NOTHING: Json = {"text": "(no content)"}


def parse_content(value: Json, path: str) -> Message:
    """Convert one item of `contents` into a `Message`. Its tool calls and results may be without ids."""
    fields = ProtoFields(value, path)
    role = fields.text("role") or "user"
    if role not in _ROLES:
        raise DialectError(f"unknown role {short(role)}", path=fields.at("role"))
    parts = tuple([parse_part(item, where) for where, item in fields.each("parts")])
    return Message(_ROLES[role], parts, extra=fields.rest())


def parted(message: Message) -> tuple[Message, ...]:
    """Return the message as a tuple. A message of the model that contains tool results is split into two messages."""
    results = message.tool_results if message.role == "assistant" else ()
    if not results:
        return (message,)
    said = tuple(part for part in message.content if not isinstance(part, ToolResult))
    answered = Message("tool", results, extra=message.extra)
    return (Message("assistant", said, extra=message.extra), answered) if said else (answered,)


def parse_system(value: Json, path: str) -> tuple[Message, ...]:
    """Convert `systemInstruction` (a content, a part or a string) into messages.

    If `value` is empty, return an empty tuple.
    """
    if value is None or value == "":
        return ()
    if not isinstance(value, dict):
        return (Message("system", (Text(read_text(value, path)),)),)
    fields = ProtoFields(value, path)
    if fields.peek("parts") is None and fields.peek("text") is not None:
        return (Message("system", (parse_part(value, path),)),)
    parts = tuple(parse_part(item, where) for where, item in fields.each("parts"))
    return (Message("system", parts, extra=fields.rest()),) if parts else ()


def render_messages(messages: Sequence[Message], *, same_dialect: bool) -> tuple[Json | None, list[Json]]:
    """Return the values of `systemInstruction` and `contents`. The first value is None if it would be empty."""
    system: list[Json] = []
    beside: dict[str, Json] = {}
    contents: list[dict[str, Json]] = []
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    for message in messages:
        parts = _own_parts(message, names) if same_dialect else _foreign_parts(message, names)
        extra = message.extra if same_dialect and message.extra else {}
        if message.role in ("system", "developer") and not contents:
            if parts:
                system += parts
                beside |= extra
            continue
        role = "model" if message.role == "assistant" else "user"
        if same_dialect:
            contents.append(merged({"role": role, "parts": parts}, extra))
        elif parts or role == "user":
            if not contents or contents[-1]["role"] != role:
                contents.append({"role": role, "parts": []})
            contents[-1]["parts"] += parts or [_NOTHING]
    if not same_dialect:
        for content in contents:
            content["parts"].sort(key=lambda part: "functionResponse" not in part)
    if not contents or (not same_dialect and contents[0]["role"] == "model"):
        contents.insert(0, {"role": "user", "parts": [_NOTHING]})
    return merged({"parts": system}, beside) if system else None, list(contents)


def _own_parts(message: Message, names: dict[str, str]) -> list[Json]:
    parts: list[Json] = []
    for part in message.content:
        match part:
            case Reasoning():
                parts += render_reasoning(part, same_dialect=True, answer=False)
            case ToolCall():
                parts.append(render_call(part, same_dialect=True))
            case ToolResult():
                parts.append(render_result(part, names.get(part.id), same_dialect=True))
            case _:
                parts += present([render_part(part, same_dialect=True)])
    return parts


def _foreign_parts(message: Message, names: dict[str, str]) -> list[Json]:
    results = message.tool_results
    parts: list[Json] = [render_result(each, names.get(each.id), same_dialect=False) for each in results]
    media = [part for each in results for part in each.content if isinstance(part, Media)]
    signed = False
    for part in (*media, *message.content):
        match part:
            case ToolResult():
                continue
            case Reasoning():
                thoughts = render_reasoning(part, same_dialect=False, answer=False)
                parts += thoughts if any("thoughtSignature" in thought for thought in thoughts) else []
            case ToolCall():
                document = render_call(part, same_dialect=False)
                signature = (part.extra or {}).get("thoughtSignature", None if signed else UNSIGNED)
                parts.append(document if signature is None else {**document, "thoughtSignature": signature})
                signed = True  # only the first of parallel calls has a signature
            case Text(text=""):
                continue
            case _:
                parts += present([render_part(part, same_dialect=False)])
    return parts


CONFIG = "generationConfig"
_THINKING, _BUDGET, _LEVEL = "thinkingConfig", "thinkingBudget", "thinkingLevel"
_MIME, _OPENAPI, _JSON_SCHEMA = "responseMimeType", "responseSchema", "responseJsonSchema"
_JSON = "application/json"
_BUDGETS = {0: "none", -1: "adaptive"}
_EFFORTS = {effort: budget for budget, effort in _BUDGETS.items()}
_MAX_BUDGET = 24_576


def parse_config(fields: ProtoFields) -> tuple[Sampling, ReasoningAsk | None, OutputFormat | None]:
    """Convert `generationConfig` into sampling, reasoning and answer format.

    The other fields of `generationConfig` stay unread.
    """
    config = fields.object(CONFIG)
    if config is None:
        return Sampling(), None, None
    if (config.integer("candidateCount") or 1) > 1:
        raise DialectError("must be 1: only one candidate is supported", path=config.at("candidateCount"))
    sampling = Sampling(
        max_output_tokens=config.integer("maxOutputTokens"),
        temperature=config.number("temperature"),
        top_p=config.number("topP"),
        top_k=config.integer("topK"),
        stop=config.texts("stopSequences"),
        seed=config.integer("seed"),
        presence_penalty=config.number("presencePenalty"),
        frequency_penalty=config.number("frequencyPenalty"),
    )
    ask = None
    if (thinking := config.object(_THINKING)) is not None:
        budget, level = thinking.integer(_BUDGET), thinking.text(_LEVEL)
        config.keep(_THINKING, thinking.rest())
        effort = level.lower() if level else None
        if budget in _BUDGETS:
            ask = ReasoningAsk(effort=effort or _BUDGETS[budget])
        elif budget is not None or effort is not None:
            ask = ReasoningAsk(effort=effort, budget_tokens=budget)
    shape = _parse_format(config)
    fields.keep(CONFIG, config.rest())
    return sampling, ask, shape


def render_config(request: Request, *, same_dialect: bool) -> dict[str, Json]:
    """Return the value of `generationConfig` for the request's sampling, reasoning and answer format."""
    sampling = request.sampling
    document: dict[str, Json] = {
        "maxOutputTokens": sampling.max_output_tokens,
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "stopSequences": list(sampling.stop) or None,
        "seed": sampling.seed,
        "presencePenalty": sampling.presence_penalty if same_dialect else sampling.presence_penalty or None,
        "frequencyPenalty": sampling.frequency_penalty
        if same_dialect
        else sampling.frequency_penalty or None,
        _THINKING: _render_thinking(request.reasoning, same_dialect=same_dialect),
    }
    if request.output_format is not None:
        output = request.output_format
        raw = (output.extra or {}).get(_OPENAPI) if same_dialect else None
        fits = raw is not None and json_schema_of(raw) == output.schema
        document |= {_MIME: _JSON, **({_OPENAPI: raw} if fits else {_JSON_SCHEMA: output.schema})}
    return known_of(document)


def _render_thinking(ask: ReasoningAsk | None, *, same_dialect: bool) -> Json | None:
    if ask is None:
        return None
    if not same_dialect:
        budget = budget_for(ask)
        if budget is None:
            adaptive = {_BUDGET: _EFFORTS["adaptive"], "includeThoughts": True}
            return adaptive if ask.effort == "adaptive" else None
        return {_BUDGET: min(budget, _MAX_BUDGET), "includeThoughts": True}
    document: dict[str, Json] = {}
    budget = ask.budget_tokens if ask.budget_tokens is not None else _EFFORTS.get(ask.effort or "")
    if budget is not None:
        document[_BUDGET] = budget
    if ask.effort is not None and ask.effort not in _EFFORTS:
        document[_LEVEL] = ask.effort.upper()
    return document


def _parse_format(config: ProtoFields) -> OutputFormat | None:
    media_type = config.text(_MIME)
    if media_type not in (None, _JSON):
        config.keep(_MIME, media_type)  # text/plain, text/x.enum
        return None
    schema, raw = config.mapping(_JSON_SCHEMA), config.mapping(_OPENAPI)
    if schema is None and raw is None:
        return OutputFormat(kind="json_object") if media_type else None
    if schema is not None:
        return OutputFormat(kind="json_schema", schema=schema, extra={_OPENAPI: raw} if raw else None)
    return OutputFormat(kind="json_schema", schema=json_schema_of(raw), extra={_OPENAPI: raw})


STREAM_TYPES = ("text/event-stream", "application/json")
_MODELS, _TUNED = "models/", "tunedModels/"
_PATH = re.compile(
    r"(?:/v1(?:alpha|beta)?\d*)?(?:/projects/[^/]+/locations/[^/]+)?(?:/publishers/[^/]+)?"
    r"/(?P<model>(?:models|tunedModels|endpoints)/.+):(?P<verb>\w+)"
)


def match(path: str, query: str) -> Target | None:
    """Return the facts in the path and query of a model call; None if the path does not belong to a model call."""
    found = _PATH.fullmatch(unquote(path))
    if found is None or found["verb"] not in ("generateContent", "streamGenerateContent"):
        return None
    model = bare_model(found["model"])
    if found["verb"] == "generateContent":
        return Target(model=model)
    asked = parse_qs(query)
    return Target(model=model, stream=True, array="sse" not in asked.get("alt", asked.get("$alt", ())))


def bare_model(name: str) -> str:
    while name.startswith(_MODELS):
        name = name.removeprefix(_MODELS)
    return name


def full_model(name: str) -> str:
    return name if name.startswith((_MODELS, _TUNED, "endpoints/")) else _MODELS + name


def render_path(request: Request) -> str:
    verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    return f"/v1beta/{quote(full_model(request.model))}:{verb}"


def answer_type(request: Request) -> str:
    return STREAM_TYPES[request.framing == "json_array"]


def as_it_came(document: Mapping[str, Json], request: Request) -> bool:
    """Return True: every JSON body can be sent unchanged, because the path (not the body) requests a stream."""
    return True
