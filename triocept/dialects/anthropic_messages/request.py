"""Parse and render requests of the Messages API, with the messages in them.

Rules:

1. `extra` has the structure of the document: unknown fields of `thinking` are in `extra["thinking"]`, and unknown
   fields of `output_config` and `metadata` are in `extra["output_config"]` and `extra["metadata"]`.
2. The API requires `max_tokens`. For a request without this limit, 64,000 is written, which is the number that Claude
   Code sends.
3. A request from another dialect is adapted. The temperature of such a request is limited to the range from 0 to 1. If
   such a request demands JSON without a schema, an instruction to write JSON is added as text. An effort becomes a
   thinking budget only where Anthropic allows thinking: no tool is forced, no sampling parameter is set, and the
   thinking of earlier tool calls is present.

A thread is a conversation that the server stores, so that the client sends only the new messages. Anthropic's SDKs use
threads since anthropic 2 (Python) and @anthropic-ai/sdk 1 (npm): by default in `beta.messages.tool_runner`, and on
request in `beta.messages.thread`. The SDKs first send `thread: {"type": "create"}`. Later they send `{"type":
"continue", "previous_message_id": …}` without `system` and `tools`, because the thread contains these fields.

A `ReasoningAsk` contains the values of `thinking` (a budget, adaptive or disabled) and of the effort in
`output_config`. Other fields of `thinking` stay in `extra["thinking"]`. `output_config` also contains the format of the
answer.

Messages and the system prompt:

1. System and developer messages at the start of the conversation become the top-level `system`. A later system message
   keeps its position and the role "system", which only the newest models accept. A later system message from another
   dialect becomes a reminder in a user message, in the words that Claude Code uses for reminders.
2. Consecutive tool results are in one user message, before the other parts of that message.
3. The API accepts no empty content. So an empty assistant message is left out, and an empty user message becomes "(no
   content)".
4. A conversation from another dialect is adapted: the first message is the user's, tool results come in the message
   right after their calls, and the ids of calls are distinct.
5. Reasoning that Anthropic did not sign is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby, takewhile
from reprlib import repr as short

import msgspec

from ..._canonical.content import Json, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from ..._canonical.memory import Memory
from ..._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling
from ..._canonical.response import Response
from ...errors import DialectError
from .._calls import distinct_calls, legal_id
from .._documents import Fields, as_content, known_of, merged, parse_content, plain_message, present, text_in
from .._portable import budget_for, portable, refuse_token_ids
from ..base import HERE, Target
from .parts import (
    NAME,
    parse_block,
    parse_choice,
    parse_tool,
    render_block,
    render_call,
    render_choice,
    render_reasoning,
    render_result,
    render_tool,
    signature_of,
)

_MAX_TOKENS = 64_000
_JSON_ONLY = "Answer with one JSON object and nothing else."


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    memory = memory or Memory()
    read = partial(memory.read, NAME, "messages", parse=parse_message)
    return memory.request(document, "messages", partial(_parse, memory=memory, read=read), read, NAME)


def _parse(
    document: Json, memory: Memory, read: Callable[[list[Json]], tuple[Message, ...]]
) -> tuple[Request, int]:
    fields = Fields(document)
    model = fields.need_text("model")
    if fields.peek("messages") is None:
        raise DialectError("is missing", path="messages")
    previous = parse_thread(fields)
    messages = read(fields.array("messages"))
    if not messages and previous is None:
        raise DialectError("must not be empty", path="messages")
    cap = fields.need_integer("max_tokens")
    choice, parallel = parse_choice(fields.take("tool_choice"), "tool_choice")
    ask, output_format = parse_reasoning_options(fields)
    system = parse_system(fields.take("system"))
    request = Request(
        dialect=NAME,
        model=model,
        messages=(*system, *messages),
        tools=memory.read(NAME, "tools", fields.array("tools"), parse_tool),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        stream=fields.flag("stream") or False,
        sampling=Sampling(
            max_output_tokens=cap,
            temperature=fields.number("temperature"),
            top_p=fields.number("top_p"),
            top_k=fields.integer("top_k"),
            stop=fields.texts("stop_sequences"),
        ),
        reasoning=ask,
        output_format=output_format,
        previous_response=previous,
        user=text_in(fields, "metadata", "user_id"),
        extra=fields.rest(),
    )
    return request, len(system)


def render_request(request: Request) -> Json:
    """Convert a request into the JSON body for a provider; see `Dialect.render_request`."""
    refuse_token_ids(request.messages)
    same_dialect = request.dialect == NAME
    wish, conversation = request.output_format, request.messages
    if wish is not None and wish.schema is None:
        conversation = (Message("system", (Text(_JSON_ONLY),)), *conversation)
    system, messages = render_messages(conversation, same_dialect=same_dialect)
    document: dict[str, Json] = {"model": request.model, "messages": messages}
    if system is not None:
        document["system"] = system
    document["max_tokens"] = request.sampling.max_output_tokens or _MAX_TOKENS
    if tools := present([render_tool(tool, same_dialect=same_dialect) for tool in request.tools]):
        document["tools"] = tools
    choice = render_choice(request.tool_choice, request.parallel_tool_calls, same_dialect=same_dialect)
    if choice is not None and (tools or same_dialect):  # Anthropic refuses a choice without tools
        document["tool_choice"] = choice
    if request.stream:
        document["stream"] = True
    sampling, temperature = request.sampling, request.sampling.temperature
    if temperature is not None and not same_dialect:
        temperature = min(1, max(0, temperature))
    stops = [stop for stop in sampling.stop if same_dialect or stop.strip()]  # blank stop strings are refused
    numbers = {"temperature": temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    document |= known_of({**numbers, "stop_sequences": stops or None})
    document |= render_reasoning_options(request, document, same_dialect=same_dialect)
    if wish is not None and wish.schema is not None:
        form: Json = {"type": "json_schema", "schema": wish.schema}
        form = merged(form, wish.extra) if same_dialect and wish.extra else form
        document["output_config"] = {**document.get("output_config", {}), "format": form}
    if request.previous_response is not None:
        document["thread"] = {"type": "continue", "previous_message_id": request.previous_response}
    if request.user is not None:
        document["metadata"] = {"user_id": request.user}
    return merged(document, request.extra) if same_dialect and request.extra else document


def parse_thread(fields: Fields) -> str | None:
    """Return the id of the earlier answer that the request continues; None if the request continues no answer.

    A `thread` of the type "create" is ignored, because a later request can continue any answer of the rollout.
    """
    thread = fields.object("thread")
    if thread is None or thread.text("type") != "continue":
        return None
    previous = thread.text("previous_message_id")
    if previous is None:
        raise DialectError("is missing", path="thread.previous_message_id")
    return previous


def continued(request: Request, earlier: Request, answer: Response) -> Request:
    """Return the request with the messages of `earlier` and its `answer` before the request's own messages.

    The returned request has the system prompt of `earlier`. If `request` has no tools, the returned request also has
    the tools of `earlier`.
    """
    said = [Message("assistant", answer.content)] if answer.content else []
    return msgspec.structs.replace(
        request,
        messages=(*earlier.messages, *said, *request.messages),
        tools=request.tools or earlier.tools,
        previous_response=None,
        continued_from=request.previous_response,
    )


_MODES = {"adaptive": "adaptive", "disabled": "none"}
_TYPES = {effort: kind for kind, effort in _MODES.items()}
_MIN_BUDGET = 1024  # Anthropic's minimum; the budget must be below max_tokens, too


def parse_reasoning_options(fields: Fields) -> tuple[ReasoningAsk | None, OutputFormat | None]:
    """Convert the fields `thinking` and `output_config` into reasoning options and an answer format."""
    effort = budget = output_format = None
    if (config := fields.object("output_config")) is not None:
        effort, form = config.text("effort"), config.peek("format")
        schema = form.get("schema") if isinstance(form, dict) and form.get("type") == "json_schema" else None
        if isinstance(schema, dict):
            config.take("format")
            extra = {name: value for name, value in form.items() if name not in ("type", "schema")}
            output_format = OutputFormat(kind="json_schema", schema=schema, extra=extra or None)
        fields.keep("output_config", config.rest())
    if (thinking := fields.object("thinking")) is not None:
        kind, budget = thinking.text("type"), thinking.integer("budget_tokens")
        mode = _MODES.get(kind or "")
        rest = thinking.rest() or {}
        if (kind == "enabled" and budget is not None) or (mode and effort is None):
            effort = mode or effort
        elif kind is not None:
            rest = {"type": kind, **rest}
        fields.keep("thinking", rest)
    asked = effort is not None or budget is not None
    return (ReasoningAsk(effort=effort, budget_tokens=budget) if asked else None), output_format


def render_reasoning_options(
    request: Request, document: dict[str, Json], *, same_dialect: bool
) -> dict[str, Json]:
    """Return the fields `thinking` and `output_config`, which request reasoning, with their values.

    `document` is the JSON body as it was rendered so far.
    """
    ask = request.reasoning
    if ask is None:
        return {}
    if not same_dialect:
        budget = _allowed_budget(request, document)
        return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget else {}
    fields: dict[str, Json] = {}
    if ask.budget_tokens is not None:
        fields["thinking"] = {"type": "enabled", "budget_tokens": ask.budget_tokens}
    elif ask.effort in _TYPES:
        fields["thinking"] = {"type": _TYPES[ask.effort]}
    if ask.effort is not None and ask.effort not in _TYPES:
        fields["output_config"] = {"effort": ask.effort}
    return fields


def _allowed_budget(request: Request, document: dict[str, Json]) -> int | None:
    budget = budget_for(request.reasoning)
    forced = document.get("tool_choice", {}).get("type") in ("any", "tool")
    if budget is None or forced or {"temperature", "top_p", "top_k"} & document.keys():
        return None
    for message in request.messages:
        thoughts = (part for part in message.content if isinstance(part, Reasoning))
        if message.tool_calls and not any(signature_of(thought.blobs) for thought in thoughts):
            return None
    budget = min(budget, int(document["max_tokens"]) - 1)
    return budget if budget >= _MIN_BUDGET else None


_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_NOTHING = "(no content)"
_INSTRUCTING = ("system", "developer")
_SILENT = Message("user")


def parse_message(value: Json, path: str) -> Message:
    """Convert a message of a request into a `Message`."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.need_text("role")
    if role not in _ROLES:
        raise DialectError(f"unknown role {short(role)}", path=fields.at("role"))
    content = parse_content(fields.take("content"), fields.at("content"), parse_block)
    return Message(_ROLES[role], content, extra=fields.rest())


def parse_system(value: Json) -> tuple[Message, ...]:
    content = parse_content(value, "system", parse_block)
    return (Message("system", content),) if content else ()


def render_messages(messages: Sequence[Message], *, same_dialect: bool) -> tuple[Json | None, list[Json]]:
    """Return the values of the fields `system` and `messages`. The first value is None if it would be empty."""
    system: list[Json] = []
    documents: list[Json] = []
    turns = messages if same_dialect else _adapted(distinct_calls(portable(messages)))
    for role, parts, extra in _turns(turns):
        blocks = _render_parts(parts, same_dialect=same_dialect)
        if role == "system" and not documents:
            system += blocks
        elif blocks or role == "user":
            document = {"role": role, "content": as_content(blocks) or _NOTHING}
            documents.append(merged(document, extra) if same_dialect and extra else document)
    if not documents or (not same_dialect and documents[0]["role"] == "assistant"):
        documents.insert(0, {"role": "user", "content": _NOTHING})
    return (as_content(system) if system else None), documents


def _adapted(messages: Sequence[Message]) -> list[Message]:
    """Return the messages of another dialect's conversation with roles and an order that Anthropic accepts."""
    turns = list(takewhile(lambda message: message.role in _INSTRUCTING, messages))
    rest: list[Message] = []
    for message in messages[len(turns) :]:
        if message.role in _INSTRUCTING:  # a reminder, which becomes text of the user
            reminder = Text(f"<system-reminder>\n{message.text}\n</system-reminder>")
            message = Message("user", (reminder,)) if message.text.strip() else _SILENT
        rest.append(message)
    for speaks, several in groupby(rest, key=lambda message: message.role == "assistant"):
        said = [message for message in several if message is not _SILENT]
        if not speaks and any(message.tool_results for message in said):
            said = [Message("user", tuple(part for message in said for part in message.content))]
        turns += said
    return turns


def _turns(messages: Iterable[Message]) -> Iterable[tuple[str, list[Part], dict[str, Json] | None]]:
    """Yield the role, parts and `extra` of each message to write.

    Join tool messages with the user message after them.
    """
    joined: list[Part] | None = None
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        if joined is not None and role in ("tool", "user"):
            joined += message.content
        elif role == "tool":
            joined = list(message.content)
        if role != "tool":
            if joined is None:
                yield role, list(message.content), message.extra
                continue
            yield "user", joined, message.extra if role == "user" else None
            joined = None
            if role != "user":
                yield role, list(message.content), message.extra
    if joined is not None:
        yield "user", joined, None


def _render_parts(parts: Sequence[Part], *, same_dialect: bool) -> list[Json]:
    blocks: list[Json] = [
        render_result(part, same_dialect=same_dialect) for part in parts if isinstance(part, ToolResult)
    ]
    for part in parts:
        match part:
            case ToolResult():
                continue
            case ToolCall():
                # A call without an id and its result get the same generated id.
                named = part if part.id else msgspec.structs.replace(part, id=legal_id("", "toolu_"))
                blocks.append(render_call(named, same_dialect=same_dialect))
            case Reasoning():
                blocks += render_reasoning(part, same_dialect=same_dialect, signed_only=True)
            case _:
                block = render_block(part, same_dialect=same_dialect)
                if block is not None:
                    blocks.append(block)
    return blocks
