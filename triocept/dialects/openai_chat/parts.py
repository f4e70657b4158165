"""Parse and render messages of chat completions, with their parts, reasoning, tools and tool calls.

Tools, tool choice and tool calls:

1. A tool that is not a function is kept unchanged. If the type of such a tool is `custom`, the tool takes free text;
   otherwise the provider runs the tool.
2. In a dialect without custom tools, a custom tool becomes a function with one string argument, `input`. Calls of this
   function are converted back.
3. In the API, the arguments of a call are a string. xAI and others send an object, which is converted to JSON text.

Reasoning is an extension of the API, with three field names. vLLM and Ollama write `reasoning`; DeepSeek, SGLang and
llama.cpp write `reasoning_content`; OpenRouter adds `reasoning_details` (with signatures, which agents must send back
as received). OpenAI itself writes no reasoning.

1. The three fields are read in the order above. The parser uses the first of these fields that has text, and stores the
   field's name in `extra["field"]`. If a second field has a different text, this second field stays among the message's
   unknown fields.
2. Each item of `reasoning_details` is one opaque blob.
3. Reasoning is written to the field from which the reasoning was read. Other reasoning is written to
   `reasoning_content`.

Content is a string, or a list of text, image_url, input_audio, file and refusal parts. A list of one plain text means
the same as a string, and is written as a string.

Messages (system, developer, user, assistant, tool, and the legacy function):

1. One message of the API is one `Message`. In the API, a message has a field for each kind of part, not a list of
   parts. The parts of the `Message` are in the order reasoning, text, refusal, tool calls.
2. Tool results are placed right after their calls, one message each. Other parts of the message that contained the
   results are placed after all results.
3. Most servers refuse an image in a result. So the image is written in a user message after the results. But an image
   that the agent itself sent in a result stays in the result.
4. A legacy `function` message is the result of the call of the function that it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from reprlib import repr as short
from typing import Literal, get_args

from ..._canonical.content import (
    Blob,
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    RefusalText,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from ..._canonical.request import Tool, ToolChoice
from ...errors import DialectError
from .._calls import legal_id, results_first
from .._documents import (
    Fields,
    as_content,
    as_error,
    data_url,
    decode_json,
    encode_json,
    in_result,
    known_of,
    media_type_of,
    merged,
    parse_content,
    plain_message,
    present,
    read_text,
    split_data_url,
)

NAME = "openai_chat"


def parse_tool(value: Json, path: str) -> Tool:
    """Convert the definition of a tool in a request into a `Tool`."""
    fields = Fields(value, path)
    kind = fields.text("type")
    if kind is None and fields.peek("function") is None:
        raise DialectError("is missing", path=fields.at("type"))
    if kind in ("function", None):
        return parse_function(fields, "function")
    inner = fields.peek(kind) if kind == "custom" else value
    return kept_tool(value, inner if isinstance(inner, dict) else {}, custom=kind == "custom")


def kept_tool(value: Json, named: dict[str, Json], *, custom: bool) -> Tool:
    """Return a `Tool` that keeps its definition, `value`, unchanged.

    `named` is the part of the definition that contains the name and the description.
    """
    name, description = named.get("name"), named.get("description")
    return Tool(
        name=name if isinstance(name, str) else "",
        description=description if isinstance(description, str) else None,
        kind="custom" if custom else "server",
        extra=value,
    )


def render_tool(tool: Tool, *, same_dialect: bool) -> Json | None:
    """Convert a tool into its definition in a request; return None for a built-in tool of another provider."""
    if tool.kind != "function" and same_dialect and tool.extra:
        return tool.extra
    if tool.kind == "server":
        return None
    inner = {"name": tool.name, "description": tool.description}
    if tool.kind == "custom":
        return {"type": "custom", "custom": known_of(inner)}
    inner = known_of({**inner, "parameters": tool.parameters, "strict": tool.strict})
    document = {"type": "function", "function": inner}
    return merged(document, tool.extra) if same_dialect and tool.extra else document


def parse_choice(value: Json, path: str) -> ToolChoice | None:
    """Convert the field `tool_choice`, a string or an object, into a `ToolChoice`."""
    if value is None:
        return None
    if isinstance(value, str):
        return choice_of("required" if value == "any" else value)  # "any" is Mistral's word
    fields = Fields(value, path)
    kind = fields.text("type") or "function"
    inner = fields.peek(kind)
    name = inner.get("name") if isinstance(inner, dict) else None
    if isinstance(name, str):
        return ToolChoice(mode="tool", name=name, extra=None if kind == "function" else value)
    if kind == "function":
        raise DialectError("is missing", path=f"{path}.function.name")
    required = isinstance(inner, dict) and inner.get("mode") == "required"
    return ToolChoice(mode="required" if required else "auto", extra=value)


def choice_of(word: str) -> ToolChoice:
    """Convert a `tool_choice` that is a string into a `ToolChoice`. Keep an unknown string in `extra`."""
    modes: dict[str, Literal["auto", "none", "required"]] = {
        mode: mode for mode in ("auto", "none", "required")
    }
    return ToolChoice(mode=modes[word]) if word in modes else ToolChoice(extra={"tool_choice": word})


def render_choice(choice: ToolChoice, named: Json, *, same_dialect: bool) -> Json:
    """Convert a `ToolChoice` into the value of `tool_choice`. If the choice names one tool, the value is `named`."""
    if same_dialect and choice.extra:
        return choice.extra.get("tool_choice", choice.extra)
    return named if choice.mode == "tool" else choice.mode


def parse_call(value: Json, path: str) -> ToolCall:
    """Convert one item of an assistant message's `tool_calls` into a `ToolCall`."""
    fields = Fields(value, path)
    identity, kind = fields.text("id") or "", fields.text("type")
    fields.take("index")  # a field of stream fragments, which some servers leave in whole answers
    if kind == "custom":
        inner = fields.need_object("custom")
        name, arguments = inner.need_text("name"), inner.text("input") or ""
        fields.keep("custom", inner.rest())
        return ToolCall(name, arguments, identity, "text", fields.rest())
    inner = fields.need_object("function")
    name, arguments = inner.need_text("name"), take_arguments(inner, "arguments") or "{}"
    fields.keep("function", inner.rest())
    return ToolCall(name, arguments, identity, extra=fields.rest())


def parse_function_call(fields: Fields) -> tuple[ToolCall, ...]:
    """Convert the legacy field `function_call` into a `ToolCall`.

    The call gets the id `call_`, followed by the tool's name.

    If the field is missing, return an empty tuple.
    """
    inner = fields.object("function_call")
    if inner is None:
        return ()
    name = inner.need_text("name")
    return (ToolCall(name, take_arguments(inner, "arguments") or "{}", f"call_{name}"),)


def render_call(call: ToolCall, *, same_dialect: bool) -> dict[str, Json]:
    """Convert a tool call into an item of `tool_calls`."""
    document: dict[str, Json]
    identity = call.id or legal_id("", "call_")
    if call.kind == "text":
        custom = {"name": call.name, "input": call.arguments}
        document = {"id": identity, "type": "custom", "custom": custom}
    else:
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        document = {"id": identity, "type": "function", "function": function}
    return merged(document, call.extra) if same_dialect and call.extra else document


def take_arguments(fields: Fields, name: str) -> str:
    """Return the arguments of a call, which are in the field `name`, as JSON text.

    Some servers send an object in this field, which is encoded.
    """
    value = fields.take(name)
    if isinstance(value, dict):
        return encode_json(value).decode()
    return "" if value is None else read_text(value, fields.at(name))


def parse_function(fields: Fields, name: str | None) -> Tool:
    """Convert the definition of a function into a `Tool`.

    The definition is the object in the field `name`. If `name` is None, `fields` itself is the definition.
    """
    inner = fields if name is None else fields.need_object(name)
    title, description = inner.need_text("name"), inner.text("description")
    parameters, strict = inner.mapping("parameters"), inner.flag("strict")
    if name is not None:
        fields.keep(name, inner.rest())
    return Tool(
        name=title, description=description, parameters=parameters, strict=strict, extra=fields.rest()
    )


DETAILS = "reasoning_details"
_DEFAULT = "reasoning_content"
_NAMES = ("reasoning", _DEFAULT)
_WITH_DETAILS = (*_NAMES, DETAILS)


def take_reasoning(fields: Fields) -> Reasoning | None:
    """Read the reasoning from the fields of a message or a stream delta.

    Return None if the fields contain no reasoning.
    """
    if fields.lack(_WITH_DETAILS):
        return None
    name, text = DETAILS, ""
    for candidate in _NAMES:
        value = fields.peek(candidate)
        if value is None or value == "":
            fields.take(candidate)
        elif isinstance(value, str) and not text:
            name, text = candidate, fields.need_text(candidate)
    details = [item for _, item in fields.items(DETAILS)]
    if not text:
        texts = [item.get("text") or item.get("summary") for item in details if isinstance(item, dict)]
        text = "".join([each for each in texts if isinstance(each, str)])
    if not text and not details:
        return None
    blobs = tuple(Blob(NAME, DETAILS, encode_json(item).decode()) for item in details)
    return Reasoning(text, blobs, None if name == _DEFAULT else {"field": name})


def render_reasoning(parts: Iterable[Reasoning], *, same_dialect: bool) -> dict[str, Json]:
    """Convert reasoning into fields of an assistant message, such as `reasoning_content`."""
    document: dict[str, Json] = {}
    for part in parts:
        name = field_of(part, same_dialect=same_dialect)
        if part.text and name != DETAILS:
            document[name] = document.get(name, "") + part.text
        if details := present(map(render_detail, part.blobs)):
            document[DETAILS] = [*document.get(DETAILS, ()), *details]
    return document


def field_of(part: Reasoning, *, same_dialect: bool) -> str:
    """Return the name of the message field for the text of the reasoning `part`, such as `reasoning_content`."""
    name = (part.extra or {}).get("field") if same_dialect else None
    return name if name in _WITH_DETAILS else _DEFAULT


def render_detail(blob: Blob) -> Json:
    return decode_json(blob.data) if blob.dialect == NAME and blob.kind == DETAILS else None


_FORMATS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}


def parse_part(value: Json, path: str) -> Part:
    """Convert one item of a message's `content` into a part."""
    fields = Fields(value, path)
    match fields.need_text("type"):
        case "text":
            return Text(fields.need_text("text"), fields.rest())
        case "image_url":
            if isinstance(fields.peek("image_url"), str):  # some clients leave the object out
                return image_at(fields.need_text("image_url"), fields)
            image = fields.need_object("image_url")
            url = image.need_text("url")
            fields.keep("image_url", image.rest())
            return image_at(url, fields)
        case "input_audio":
            return parse_audio(fields)
        case "file":
            file = fields.need_object("file")
            data, name = file.text("file_data"), file.text("filename")
            fields.keep("file", file.rest())
            return file_at(None, data, name, fields)
        case "refusal":
            return RefusalText(fields.need_text("refusal"), fields.rest())
        case _:
            return Opaque(NAME, value)


def render_content(parts: Iterable[Part], *, same_dialect: bool) -> Json:
    return as_content(present([render_part(part, same_dialect=same_dialect) for part in parts]))


def render_part(part: Part, *, same_dialect: bool) -> dict[str, Json] | None:
    """Convert a part into an item of `content`; return None if `content` cannot express the part."""
    match part:
        case Text(text=text):
            document: dict[str, Json] = {"type": "text", "text": text}
        case Media(kind="image"):
            document = {"type": "image_url", "image_url": {"url": data_url(part) or ""}}
        case Media(kind="audio") if part.data is not None:
            document = render_audio(part)
        case Media(data=None, url=str(url)):  # the wire has no files by URL
            document = {"type": "text", "text": f"[{part.kind}: {url}]"}
        case Media():
            file = {"file_data": data_url(part), "filename": part.name}
            document = {"type": "file", "file": known_of(file)}
        case Opaque(dialect=dialect, raw=raw):
            return raw if dialect == NAME and isinstance(raw, dict) else None
        case _:
            return None
    return merged(document, part.extra) if same_dialect and part.extra else document


def image_at(url: str | None, fields: Fields) -> Media:
    """Return an image with the URL `url`, which may be a `data:` URL.

    The unread `fields` become the `extra` of the image.
    """
    inline = split_data_url(url) if url is not None else None
    if inline is None:
        return Media(kind="image", url=url, extra=fields.rest())
    return Media(kind="image", media_type=inline[0], data=inline[1], extra=fields.rest())


def parse_audio(fields: Fields) -> Part:
    audio = fields.need_object("input_audio")
    data, form = audio.need_text("data"), audio.text("format")
    fields.keep("input_audio", audio.rest())
    return Media(kind="audio", data=data, media_type=form and f"audio/{form}", extra=fields.rest())


def file_at(url: str | None, content: str | None, name: str | None, fields: Fields) -> Media:
    """Return a file with the URL `url` or with `content`. The unread `fields` become the `extra` of the file.

    `content` is a `data:` URL, or bare base64, which some clients send.
    """
    inline = split_data_url(content) if content is not None else None
    media_type, data = inline or (None, content)
    return Media(kind="file", url=url, media_type=media_type, data=data, name=name, extra=fields.rest())


def render_audio(media: Media) -> dict[str, Json]:
    kind = media_type_of(media)
    form = _FORMATS.get(kind) or kind.removeprefix("audio/")
    return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}


_ROLES: dict[str, Role] = {role: role for role in get_args(Role) if role != "tool"}


def parse_message(value: Json, path: str) -> Message:
    """Convert a message of a request into a `Message`."""
    if (plain := plain_message(value, _ROLES)) is not None:
        return plain
    fields = Fields(value, path)
    role = fields.need_text("role")
    if role in ("tool", "function"):
        value = fields.take("content")
        result = in_result(parse_content(value, fields.at("content"), parse_part), value, NAME)
        name = fields.text("name")
        identity = f"call_{name}" if role == "function" else fields.text("tool_call_id") or ""
        return Message("tool", (ToolResult(id=identity, content=result, name=name, extra=fields.rest()),))
    if role not in _ROLES:
        raise DialectError(f"unknown role {short(role)}", path=fields.at("role"))
    parts = assistant_parts(fields) if role == "assistant" else _content(fields)
    return Message(_ROLES[role], parts, fields.text("name"), fields.rest())


def assistant_parts(fields: Fields) -> tuple[Part, ...]:
    """Convert the fields of an assistant message into parts."""
    parts: list[Part] = []
    reasoning = take_reasoning(fields)
    if reasoning:
        parts.append(reasoning)
    parts += _content(fields)
    refusal = fields.text("refusal")
    if refusal:
        parts.append(RefusalText(refusal))
    parts += [parse_call(item, path) for path, item in fields.items("tool_calls")]
    parts += parse_function_call(fields)
    return tuple(parts)


def render_messages(messages: Iterable[Message], *, same_dialect: bool) -> list[Json]:
    def shown(result: ToolResult) -> list[Part]:
        media = [part for part in result.content if isinstance(part, Media)]
        return [Text(f"Result of tool call {result.id}:"), *media] if media else []

    return [
        _render_result(content, same_dialect=same_dialect)
        if isinstance(content, ToolResult)
        else _render_message(message, content, same_dialect=same_dialect)
        for message, content in results_first(messages, None if same_dialect else shown)
    ]


def _content(fields: Fields) -> tuple[Part, ...]:
    return parse_content(fields.take("content"), fields.at("content"), parse_part)


def _render_message(message: Message, parts: Sequence[Part], *, same_dialect: bool) -> Json:
    role = "user" if message.role == "tool" else message.role
    document: dict[str, Json] = {"role": role}
    if role == "assistant":
        document |= _render_assistant(parts, same_dialect=same_dialect)
    else:
        document["content"] = render_content(parts, same_dialect=same_dialect)
    if message.name is not None:
        document["name"] = message.name
    return merged(document, message.extra) if same_dialect and message.extra else document


def _render_assistant(parts: Sequence[Part], *, same_dialect: bool) -> dict[str, Json]:
    calls = [render_call(part, same_dialect=same_dialect) for part in parts if isinstance(part, ToolCall)]
    content = render_content(parts, same_dialect=same_dialect)
    # Strict servers refuse a null content without tool calls; others refuse an empty text with tool calls.
    document: dict[str, Json] = {"content": content if content or not calls else None}
    # This provider cannot use reasoning that another provider has signed.
    thoughts = [part for part in parts if isinstance(part, Reasoning)]
    thoughts = [part for part in thoughts if all(blob.dialect == NAME for blob in part.blobs)]
    document |= render_reasoning(thoughts, same_dialect=same_dialect)
    refusal = "".join(part.text for part in parts if isinstance(part, RefusalText))
    if refusal:
        document["refusal"] = refusal
    if calls:
        document["tool_calls"] = calls
    return document


def _render_result(result: ToolResult, *, same_dialect: bool) -> Json:
    parts = [part for part in result.content if same_dialect or not isinstance(part, Media)]
    content = render_content(parts, same_dialect=same_dialect)
    if not content and result.content and not same_dialect:
        content = "(see below)"
    if result.is_error:
        content = as_error(content)
    document = {"role": "tool", "tool_call_id": result.id or legal_id("", "call_"), "content": content}
    if result.name is not None:
        document["name"] = result.name
    return merged(document, result.extra) if same_dialect and result.extra else document
