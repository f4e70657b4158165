"""Requests of completions, and their prompts.

The prompt is text, or token ids:

1. A text, or a list of one text, is one message of the user. Token ids (or a list of one list of them) are one opaque
   part of a message, for only this dialect supports them; they are written as one list. Another dialect cannot express
   them, and refuses such a request (see `_portable`).
2. One exchange has one answer: several prompts are refused.
3. A conversation of another dialect becomes the texts of system and user, separated by blank lines. If it contains
   messages of the assistant, each turn begins with its speaker, and the prompt ends with "Assistant:".
4. Tools, calls, results and media cannot be expressed in a text: they raise an error, and are never dropped silently.

Requests:

1. `echo`, `suffix`, `best_of`, `logprobs` (a number here) and all unknown fields stay in `extra`. The code that
   answers implements `echo` (see `response`).
2. `extra` mirrors the document: unknown fields of `stream_options` are in `extra["stream_options"]`.
3. Only one choice is supported: `n` above 1 is refused.
4. From another dialect, `max_tokens` is 4096 by default, for the wire's own default is 16. Tools that the model may
   call cannot be expressed, and raise an error. A `user` of more than 64 characters is left out: OpenAI refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._canonical.content import (
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
from ..._canonical.memory import Memory
from ..._canonical.request import Request
from ...errors import DialectError
from .._documents import Fields, kind_of, merged, read_list, read_text
from ..base import HERE, Target
from ..openai_chat.request import (
    parse_include_usage,
    parse_sampling,
    render_sampling,
    render_stream,
    render_user,
)

NAME = "openai_completions"


_SPEAKERS = {"user": "User", "assistant": "Assistant"}


def parse_prompt(value: Json, path: str) -> Message:
    """Return the prompt as one message."""
    if value is None:
        raise DialectError("is missing", path=path)
    if isinstance(value, str):
        return _message(value)
    items = read_list(value, path)
    if not items:
        raise DialectError("must not be empty", path=path)
    if _are_ids(items):
        return Message("user", (Opaque(NAME, items),))
    if len(items) > 1 and all(isinstance(item, str | list) for item in items):
        raise DialectError(f"only one prompt can be answered, not {len(items)}", path=path)
    first, where = items[0], f"{path}[0]"
    if isinstance(first, list) and first and _are_ids(first):
        return Message("user", (Opaque(NAME, first),))
    if isinstance(first, str) and len(items) == 1:
        return _message(first)
    rights = (isinstance(item, str) if isinstance(first, str) else _is_id(item) for item in items)
    wrong = next((number for number, right in enumerate(rights) if not right), 0)
    where = f"{path}[{wrong}]"
    if isinstance(items[wrong], list):
        raise DialectError("must be a list of token ids, and not empty", path=where)
    wanted = "a string" if isinstance(first, str) else "a string or a token id"
    raise DialectError(f"must be {wanted}, not {kind_of(items[wrong])}", path=where)


def render_prompt(messages: Sequence[Message]) -> Json:
    """Return the prompt for these messages.

    Raises:
        DialectError: a text cannot express them.
    """
    if len(messages) == 1 and len(messages[0].content) == 1:
        (part,) = messages[0].content
        if isinstance(part, Opaque) and part.dialect == NAME and isinstance(part.raw, list):
            return part.raw
    return text_of(messages)


def text_of(messages: Sequence[Message]) -> str:
    """Return the text of the prompt; empty if it is token ids."""
    turns = [
        (
            message.role,
            "".join(
                _part(part, f"messages[{number}].content[{place}]")
                for place, part in enumerate(message.content)
            ),
        )
        for number, message in enumerate(messages)
    ]
    turns = [(role, text) for role, text in turns if text]
    if all(role != "assistant" for role, _ in turns):
        return "\n\n".join(text for _, text in turns)
    lines = [f"{_SPEAKERS[role]}: {text}" if role in _SPEAKERS else text for role, text in turns]
    return "\n\n".join([*lines, "Assistant:"])


def _message(text: str) -> Message:
    return Message("user", (Text(read_text(text, "prompt")),) if text else ())


def _are_ids(items: list[Json]) -> bool:
    return all(_is_id(item) for item in items)


def _is_id(item: Json) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _part(part: Part, path: str) -> str:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return text
        case ToolCall() | ToolResult() | Media():
            kind = {ToolCall: "a tool call", ToolResult: "a tool's result", Media: "media"}[type(part)]
            raise DialectError(f"{kind} cannot be said in a completions prompt", path=path)
        case Reasoning() | Opaque():
            return ""


_MAX_TOKENS = 4096


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Return the request that an agent sent.

    Raises:
        DialectError: the document is invalid; the error has the path in it.
    """
    fields = Fields(document)
    model = fields.need_text("model")
    message = parse_prompt(fields.take("prompt"), "prompt")
    if (fields.integer("n") or 1) > 1:
        raise DialectError("only one choice can be given", path="n")
    for name, read in (("suffix", Fields.text), ("echo", Fields.flag), ("logprobs", Fields.integer)):
        read(
            Fields({name: fields.peek(name)}), name
        )  # raise an error for another type; keep the field as it came
    return Request(
        dialect=NAME,
        model=model,
        messages=(message,),
        stream=fields.flag("stream") or False,
        include_usage=parse_include_usage(fields),
        sampling=parse_sampling(fields, fields.integer("max_tokens")),
        user=fields.text("user"),
        extra=fields.rest(),
    )


def render_request(request: Request) -> Json:
    """Return the document that sends `request` to a provider.

    Raises:
        DialectError: the request has tools, media or other parts that a prompt cannot express.
    """
    same_dialect = request.dialect == NAME
    if request.tools and (request.tool_choice is None or request.tool_choice.mode != "none"):
        raise DialectError("tools cannot be offered in completions", path="tools")
    document: dict[str, Json] = {"model": request.model, "prompt": render_prompt(request.messages)}
    cap = request.sampling.max_output_tokens
    if cap is not None or not same_dialect:
        document["max_tokens"] = _MAX_TOKENS if cap is None else cap
    document |= render_sampling(request.sampling, same_dialect=same_dialect)
    document |= render_stream(request) | render_user(request, same_dialect=same_dialect)
    return merged(document, request.extra) if same_dialect and request.extra else document
