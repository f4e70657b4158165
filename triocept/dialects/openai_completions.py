"""OpenAI's legacy completions (`POST /v1/completions`), which continue a text, as base models do.

The prompt is a text, or token ids:

1. A text, or a list of one text, is one user message. Token ids (or a list of one list of token ids) are one opaque
   part of a message, because only this dialect supports token ids. Token ids are written as one list. Other dialects
   cannot express token ids, so their renderers raise an error (see `_portable`).
2. One exchange has one answer, so a request with several prompts is refused.
3. A conversation from another dialect becomes a text: the system and user messages, separated by blank lines. If the
   conversation contains assistant messages, each message begins with its speaker, and the prompt ends with
   "Assistant:".
4. Tools, calls, results and media cannot be expressed in a text. Such content raises an error, and is never left out
   silently.

Requests:

1. `echo`, `suffix`, `best_of`, `logprobs` (a number in this dialect) and all unknown fields stay in `extra`. The code
   that renders answers implements `echo` (see `echo_of`).
2. `extra` has the structure of the document: unknown fields of `stream_options` are in `extra["stream_options"]`.
3. Only one choice (answer) is supported; `n` above 1 is refused.
4. A request from another dialect gets `max_tokens` 4096 by default, because OpenAI's own default is 16. If the model
   may call tools, an error is raised, because this API cannot express tools. A `user` of more than 64 characters is
   left out, because OpenAI refuses a longer `user`.

Answers that are not streamed follow these rules. (Errors have the same form as in chat completions, but an overflow
error names the parameter `prompt`.)

1. `extra` has the structure of the document: further fields of the choice (`logprobs`, `token_ids`, …) are in
   `extra["choices"][0]`.
2. `created` is always the time of triocept's answer.
3. `echo` requests the prompt before the answer. A provider of this dialect also received `echo`, so the provider's
   answer already begins with the prompt.
4. All texts, including refusals, become one text. Reasoning is left out. A tool call raises an error, because this API
   cannot express tool calls.

Streams are parsed by the rules of `ChunkParser`; a choice may have no text. Streams are rendered by these rules:

1. A stream consists of chunks with text, exactly one chunk with the finish reason, a chunk with the usage if it was
   requested, and `[DONE]`.
2. An echoed prompt is the first chunk (see `echo_of`).
"""

from __future__ import annotations

from collections.abc import Sequence

from .._canonical.content import (
    Json,
    Media,
    Message,
    Opaque,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from .._canonical.events import Event, PartBlob, PartDelta, PartEnd, PartStart, ResponseEnd, ResponseStart
from .._canonical.frozen import FrozenList, frozen
from .._canonical.memory import Memory
from .._canonical.request import Request
from .._canonical.response import Response, ResponsePart, StopReason
from ..errors import DialectError
from ._documents import Fields, encode_text, is_same_dialect, kind_of, known_of, merged, read_list
from ._failures import OVERFLOW, Failure
from .base import HERE, Dialect, Target
from .openai_chat import OPENAI
from .openai_chat.request import (
    parse_include_usage,
    parse_sampling,
    render_sampling,
    render_stream,
    render_user,
)
from .openai_chat.response import (
    MATCHED,
    closed_answer,
    open_answer,
    parse_error,
    parse_finish,
    render_answer,
    render_finish,
    take_stop,
)
from .openai_chat.response import render_error as render_chat_error
from .openai_chat.streams import ChunkParser, ChunkRenderer
from .streams import EventBuilder

NAME = "openai_completions"


_SPEAKERS = {"user": "User", "assistant": "Assistant"}


def parse_prompt(value: Json, path: str) -> Message:
    """Convert the field `prompt` into one `Message`."""
    if value is None:
        raise DialectError("is missing", path=path)
    if isinstance(value, str):
        return Message("user", (Text(value),) if value else ())
    items = read_list(value, path)
    if not items:
        raise DialectError("must not be empty", path=path)
    if all(map(_is_id, items)):
        return Message("user", (Opaque(NAME, FrozenList(items)),))
    if len(items) > 1 and all(isinstance(item, str | list) for item in items):
        raise DialectError(f"only one prompt can be answered, not {len(items)}", path=path)
    first = items[0]
    if isinstance(first, list) and first and all(map(_is_id, first)):
        return Message("user", (Opaque(NAME, FrozenList(first)),))
    if isinstance(first, str) and len(items) == 1:
        return Message("user", (Text(first),) if first else ())
    rights = (isinstance(item, str) if isinstance(first, str) else _is_id(item) for item in items)
    wrong = next((number for number, right in enumerate(rights) if not right), 0)
    where = f"{path}[{wrong}]"
    if isinstance(items[wrong], list):
        raise DialectError("must be a list of at least one token id", path=where)
    wanted = "a string" if isinstance(first, str) else "a string or a token id"
    raise DialectError(f"must be {wanted}, not {kind_of(items[wrong])}", path=where)


def text_of(messages: Sequence[Message]) -> str:
    """Convert the messages into one prompt text. Raise `DialectError` for tool calls, tool results and media.

    A prompt of token ids becomes an empty text.
    """
    turns: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        text = ""
        for place, part in enumerate(message.content):
            match part:
                case Text() | RefusalText():
                    text += part.text
                case ToolCall() | ToolResult() | Media():
                    kind = {ToolCall: "a tool call", ToolResult: "a tool's result", Media: "media"}[
                        type(part)
                    ]
                    path = f"messages[{number}].content[{place}]"
                    raise DialectError(f"{kind} cannot be expressed in a completions prompt", path=path)
        if text:
            turns.append((message.role, text))
    if all(role != "assistant" for role, _ in turns):
        return "\n\n".join(text for _, text in turns)
    lines = [f"{_SPEAKERS[role]}: {text}" if role in _SPEAKERS else text for role, text in turns]
    return "\n\n".join([*lines, "Assistant:"])


def _is_id(item: Json) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


_MAX_TOKENS = 4096


def parse_request(document: Json, target: Target = HERE, memory: Memory | None = None) -> Request:
    """Convert the JSON body of an agent's call into a `Request`; see `ParseRequest`."""
    fields = Fields(document)
    model = fields.need_text("model")
    message = parse_prompt(fields.take("prompt"), "prompt")
    if (fields.integer("n") or 1) > 1:
        raise DialectError("must be 1: only one choice is supported", path="n")
    for name, read in (("suffix", Fields.text), ("echo", Fields.flag), ("logprobs", Fields.integer)):
        read(Fields({name: fields.peek(name)}), name)  # raise an error for another type, and keep the field
    return Request(
        dialect=NAME,
        model=model,
        messages=(message,),
        stream=fields.flag("stream") or False,
        include_usage=parse_include_usage(fields),
        sampling=parse_sampling(fields, fields.integer("max_tokens")),
        user=fields.text("user"),
        extra=frozen(fields.rest()),
    )


def render_request(request: Request) -> Json:
    """Convert a request into the JSON body for a provider.

    Raise `DialectError` if a text cannot express the request.
    """
    same_dialect = request.dialect == NAME
    if request.tools and (request.tool_choice is None or request.tool_choice.mode != "none"):
        raise DialectError("the completions dialect cannot offer tools", path="tools")
    match request.messages:
        case [Message(content=[Opaque(dialect=dialect, raw=list(ids))])] if dialect == NAME:
            prompt: Json = ids
        case messages:
            prompt = text_of(messages)
    document: dict[str, Json] = {"model": request.model, "prompt": prompt}
    cap = request.sampling.max_output_tokens
    if cap is not None or not same_dialect:
        document["max_tokens"] = _MAX_TOKENS if cap is None else cap
    document |= render_sampling(request.sampling, same_dialect=same_dialect)
    document |= render_stream(request) | render_user(request, same_dialect=same_dialect)
    return merged(document, request.extra) if same_dialect and request.extra else document


def render_error(failure: Failure) -> Json:
    document = render_chat_error(failure)
    if document["error"]["code"] == OVERFLOW and failure.param is None:
        document["error"]["param"] = "prompt"
    return document


def parse_response(document: Json) -> Response:
    fields, choice = open_answer(document)
    text = choice.text("text")
    end = take_stop(choice, calls=False, refusal=False)
    return closed_answer(fields, known_of(choice.rest()), (Text(text),) if text else (), end, NAME)


def render_response(response: Response, request: Request) -> Json:
    """Convert a response into the JSON body that answers `request`. Raise `DialectError` for a tool call."""
    text = "".join([render_part(part) for part in response.content])
    choice: dict[str, Json] = {
        "text": echo_of(request, response.dialect) + text,
        "index": 0,
        "logprobs": None,
        "finish_reason": render_finish(response.stop_reason, calls=False, refusal=False),
    }
    same_dialect = is_same_dialect(response.dialect, NAME)
    return render_answer(response, request, choice, "text_completion", "cmpl-", same_dialect=same_dialect)


def echo_of(request: Request, dialect: str) -> str:
    """Return the text to write before the answer: the prompt if the request sets `echo`, else an empty text.

    If the answer came from a provider of completions (`dialect`), the text is also empty, because the answer already
    begins with the prompt.
    """
    wanted = (request.extra or {}).get("echo") if request.dialect == NAME else None
    return text_of(request.messages) if wanted is True and dialect != NAME else ""


def render_part(part: ResponsePart) -> str:
    match part:
        case Text(text=text) | RefusalText(text=text):
            return text
        case ToolCall(name=name):
            raise DialectError(
                f"the completions dialect has no tool calls, so it cannot express the call of {name!r}"
            )
        case _:
            return ""


class Parser(ChunkParser):
    def __init__(self) -> None:
        super().__init__(NAME)
        self._parts = EventBuilder()

    def _content(self, choice: Fields, events: list[Event]) -> None:
        self._parts.text(Text(""), choice.text("text") or "", events)

    def _close_parts(self, events: list[Event]) -> None:
        self._parts.close(events)

    def _ending(self, finish: str, matched: str | None) -> tuple[StopReason, str | None]:
        return parse_finish(finish, matched, calls=False, refusal=False)


_BEFORE = b'"choices":[{"text":'
_BEHIND = b',"index":0,"logprobs":null,"finish_reason":null}]}\n\n'


class Renderer(ChunkRenderer):
    def __init__(self, request: Request) -> None:
        super().__init__(request, NAME, "text_completion", "cmpl-", render_error)
        self._texts: set[int] = set()  # the open parts that are text

    def render(self, event: Event) -> bytes:
        """Return the bytes that `event` adds to the stream. Raise `DialectError` if `event` begins a tool call."""
        match event:
            case PartDelta(index=index, text=text):
                return self._text(text) if index in self._texts else b""
            case PartStart(index=index, part=part):
                text = render_part(part)
                if not isinstance(part, Text | RefusalText):
                    return b""
                self._texts.add(index)
                return self._text(text)
            case PartEnd(index=index):
                self._texts.discard(index)
                return b""
            case PartBlob():
                return b""
            case ResponseStart():
                self.begin(event)
                echo = echo_of(self._request, event.dialect)
                data = self._chunk(echo) if echo else b""
                extra = event.extra if self._own else None
                return data + self._line({**extra, "choices": []}) if extra else data
            case ResponseEnd():
                finish = render_finish(event.stop_reason, calls=False, refusal=False)
                choice: Json = {"text": "", "index": 0, "logprobs": None, "finish_reason": finish}
                if event.stop_sequence is not None:
                    choice[MATCHED[0]] = event.stop_sequence
                last = merged({"choices": [choice]}, (event.extra or {}) if self._own else {})
                return self._line(last) + self.tail(event.usage)

    def keepalive(self, response_id: str = "") -> bytes:
        self._open_head(response_id, "")
        return self._chunk("")

    def _text(self, text: str) -> bytes:
        self._characters += len(text)
        return self._chunk(text) if text else b""

    def _chunk(self, text: str) -> bytes:
        return self._head + _BEFORE + encode_text(text) + _BEHIND


OPENAI_COMPLETIONS = Dialect(
    name=NAME,
    route="/completions",
    base_path="/v1",
    parse_request=parse_request,
    render_request=render_request,
    parse_response=parse_response,
    render_response=render_response,
    stream_parser=Parser,
    stream_renderer=Renderer,
    parse_error=parse_error,
    render_error=render_error,
    transcript="prompt",
    caps=(("max_tokens",),),
    logprobs=1,
    tools=False,
    response_prefix="cmpl-",
    sdk=OPENAI,
)
