"""What the conversations of agents hold."""

from collections.abc import Iterator
from typing import Any, TypeVar

from triocept._canonical.content import (
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
from triocept._canonical.request import Request, Tool
from triocept.dialects.kit import decode_json

from .feature import Ask, Look, Word, changed_to
from .requests import HI, LS, ask

PNG, PDF, WAV = "iVBORw0KGgo=", "JVBERi0xLjQ=", "UklGRgAAAAA="
CALL, OTHER = ToolCall("ls", '{"path":"/"}', "call_1"), ToolCall("ls", "{}", "call_2")
GO_ON = Message("user", (Text("go on"),))
P = TypeVar("P", bound=Part)


def result(*content: Text | Media | Opaque, of: str = "call_1", failed: bool = False) -> Message:
    return Message("tool", (ToolResult(id=of, content=content, is_error=failed),))


def wrote(*parts: Part) -> Message:
    return Message("assistant", parts)


def told(
    name: str, look: Look, *messages: Message, word: Word = changed_to, group: str = "", **more: Any
) -> Ask:
    """A feature of a conversation."""
    return ask(group or CONVERSATION, name, look, word, messages=messages, **more)


def parts_of(request: Request, kind: type[P]) -> Iterator[P]:
    return (part for message in request.messages for part in message.content if isinstance(part, kind))


def role_of(text: str) -> Look:
    """Who says this text; the parts of a prompt are a text of its own."""

    def look(request: Request) -> object:
        for message in request.messages:
            if text == message.text:
                return message.role
            if text in message.text:
                return f"in the text of the {message.role}"
        return None

    return look


def as_text(role: str) -> str:
    return role if role.startswith("in the") else f"text of the {role}"


def media(request: Request) -> object:
    """The first media of the conversation, wherever it stands; or that a text speaks of it."""
    for message in request.messages:
        for part in message.content:
            inner = part.content if isinstance(part, ToolResult) else (part,)
            for one in inner:
                if isinstance(one, Media):
                    where = "result" if isinstance(part, ToolResult) else "message"
                    return where, one.kind, one.data, one.url
    spoken = " ".join(message.text for message in request.messages)
    return "named in a text" if "[" in spoken else None


def media_word(seen: Any) -> str:
    if isinstance(seen, str):
        return seen
    where, kind, *_ = seen
    return "after the results" if where == "message" and kind == "image" else f"as {kind}"


def calls(request: Request) -> object:
    return [(call.name, decode_json(call.arguments)) for call in parts_of(request, ToolCall)] or None


def results(request: Request) -> object:
    return [found.text for found in parts_of(request, ToolResult)] or None


def linked(request: Request) -> object:
    """The ids of calls and results, where they fit each other."""
    made = [call.id for call in parts_of(request, ToolCall)]
    answered = [found.id for found in parts_of(request, ToolResult)]
    return made if made and made == answered else None


def spaced(request: Request) -> object:
    """The namespace that each call names."""
    return next(((call.extra or {}).get("namespace") for call in parts_of(request, ToolCall)), None)


def _signed(dialect: str) -> Request | None:
    """A conversation whose reasoning the source's provider has signed."""
    from .answers import signed  # it needs what this module has

    reasoning = signed(dialect)
    if reasoning is None:
        return None
    messages = (*HI, wrote(reasoning, Text("so")), GO_ON)
    return Request(dialect=dialect, model="m", messages=messages)


CONVERSATION, CALLS, MEDIA = "Conversation", "Calls and results", "Media"
_ASKED = (*HI, wrote(CALL))
_SPACED = ToolCall("ls", "{}", "call_1", extra={"namespace": "files"})
HISTORY = [
    told("system prompt", role_of("be terse"), Message("system", (Text("be terse"),)), *HI, word=as_text),
    told("developer message at the beginning", role_of("be terse"), Message("developer", (Text("be terse"),)),
     *HI, word=as_text),
    told("system message after the beginning", role_of("be terse"), *HI, wrote(Text("ok")),
     Message("system", (Text("be terse"),)), GO_ON, word=as_text),
    told("text of the user", role_of("hi"), *HI, word=as_text),
    told("text of the assistant", role_of("so"), *HI, wrote(Text("so")), GO_ON, word=as_text),
    told("name of a speaker", lambda r: r.messages[0].name, Message("user", (Text("hi"),), name="anna")),
    told("reasoning without a signature", lambda r: next((p.text for p in parts_of(r, Reasoning)), None), *HI,
     wrote(Reasoning("hm"), Text("so")), GO_ON,
     note="Providers that sign their reasoning refuse reasoning without a signature. DeepSeek and some other "
          "providers require that the agent sends their reasoning back to them."),
    Ask(CONVERSATION, "reasoning with its provider's signature",
     lambda r: [blob for p in parts_of(r, Reasoning) for blob in p.blobs] or None,
     note="A provider accepts only signatures that it has made itself.", make=_signed),
    told("text of a refusal",
     lambda r: next((type(p).__name__ for m in r.messages for p in m.content if isinstance(p,
        Text | RefusalText) and "never" in p.text), None), *HI, wrote(RefusalText("never")), GO_ON,
     word=lambda _: "a text"),
    told("prompt of token ids", lambda r: next((p.raw for p in parts_of(r, Opaque)), None),
     Message("user", (Opaque("openai_completions", [1, 2, 3]),)), only="openai_completions",
     note="Token ids are valid only for one model, so the agent gets a 400."),
    told("a call: name and arguments", calls, *_ASKED, result(Text("out")), group=CALLS, tools=(LS,)),
    told("arguments that are not JSON", lambda r: [c.arguments for c in parts_of(r, ToolCall)] or None, *HI,
     wrote(ToolCall("ls", '{"path": ', "call_1")), result(Text("no")), group=CALLS, tools=(LS,)),
    told("the id of a call and its result", linked, *_ASKED, result(Text("out")), group=CALLS, tools=(LS,)),
    told("an id with other characters (`ls:0`)", linked, *HI, wrote(ToolCall("ls", "{}", "ls:0")),
     result(Text("out"), of="ls:0"), group=CALLS, tools=(LS,), word=lambda _: "another id"),
    told("parallel calls and their results, in order", lambda r: (calls(r), results(r)), *HI,
     wrote(CALL, OTHER), result(Text("one")), result(Text("two"), of="call_2"), group=CALLS, tools=(LS,)),
    told("a call with free text",
     lambda r: next(((c.kind, c.arguments) for c in parts_of(r, ToolCall)), None), *HI,
     wrote(ToolCall("patch", "*** x", "call_1", "text")), result(Text("ok")), group=CALLS,
     tools=(Tool(name="patch", kind="custom"),), word=lambda seen: f"JSON, `{seen[1]}`"),
    told("the namespace of a call", spaced, *HI, wrote(_SPACED), result(Text("out")), group=CALLS,
     tools=(Tool(name="ls", parameters={}, extra={"namespace": {"name": "files"}}),), only="openai_responses",
     note="If the provider calls such a tool, triocept adds the namespace to the tool call in the answer. It "
          "finds the namespace among the tools of the agent's request."),
    told("a tool's result", results, *_ASKED, result(Text("out")), group=CALLS, tools=(LS,)),
    told("a result of several texts",
     lambda r: next(
      (tuple(p.text for p in found.content if isinstance(p, Text)) for found in parts_of(r, ToolResult)),
      None), *_ASKED, result(Text("one"), Text("two")), group=CALLS, tools=(LS,), word=lambda _: "one text"),
    told("a result that is an error",
     lambda r: next(((found.is_error, found.text) for found in parts_of(r, ToolResult)), None), *_ASKED,
     result(Text("oops"), failed=True), group=CALLS, tools=(LS,), word=lambda seen: f'"{seen[1]}"'),
    told("an image in a result", media, *_ASKED,
     result(Text("see"), Media(kind="image", data=PNG, media_type="image/png")), group=CALLS, tools=(LS,),
     word=media_word,
     note="Most servers refuse an image in a tool's result. Therefore triocept sends the image in a separate "
          "message, after all results of the turn."),
    *(told(name, media, Message("user", (Text("look"), Media(**fields))), group=MEDIA,
      word=media_word) for name,
     fields in (("an image, inline", {"kind": "image", "data": PNG, "media_type": "image/png"}),
      ("an image, by URL", {"kind": "image", "url": "https://example.org/a.png"}),
      ("a file, inline", {"kind": "file", "data": PDF, "media_type": "application/pdf", "name": "a.pdf"}),
      ("a file, by URL", {"kind": "file", "url": "https://example.org/a.pdf"}),
      ("audio, inline", {"kind": "audio", "data": WAV, "media_type": "audio/wav"}))),
    told("the name of a file", lambda r: next((m.name for m in parts_of(r, Media)), None),
     Message("user",
      (Text("look"), Media(kind="file", data=PDF, media_type="application/pdf", name="a.pdf"))), group=MEDIA,
     note="Only one server of Gemini's dialect, Vertex AI, accepts the name of a file."),
]  # fmt: skip
