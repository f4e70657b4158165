"""Requests and answers of an agent, in all shapes: read, written in its own dialect and in every other, and walked."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from tests.growth.measured import Make, Work
from tests.upstream.provider import CHAT, COMPLETIONS, GEMINI, MESSAGES, RESPONSES
from triocept import Message, Request, Response, Text, Tool, ToolCall, ToolResult
from triocept._canonical.content import Blob, Part
from triocept._canonical.memory import Memory
from triocept._server.documents import read_body
from triocept._util.unicode import mended
from triocept.dialects import DIALECTS
from triocept.dialects._documents import decode_json
from triocept.dialects._tool_names import ToolNames
from triocept.types import Media, Reasoning

SPOKEN = (CHAT, MESSAGES, RESPONSES, GEMINI)


def asked(number: int) -> Message:
    return Message("user", (Text(f"question {number}"),))


def said(number: int) -> Message:
    return Message("assistant", (Text(f"answer {number}"),))


def call(number: int, identity: str = "") -> ToolCall:
    return ToolCall("ls", '{"a":1}', identity or f"c{number}")


def result(number: int, identity: str = "") -> Message:
    return Message("tool", (ToolResult(id=identity or f"c{number}", content=(Text("o"),), name="ls"),))


def picture(number: int) -> Media:
    return Media(kind="image", media_type="image/png", data=f"{number:08}")


def thought(number: int) -> Reasoning:
    blobs = tuple(Blob(dialect, "signature", f"{number}") for dialect in SPOKEN)
    return Reasoning(f"thought {number}", blobs)


def asking(*parts: Part) -> list[Message]:
    return [Message("user", parts)]


SHAPES: dict[str, Callable[[int], list[Message]]] = {
    "questions and answers": lambda n: [each(k) for k in range(n) for each in (asked, said)],
    "questions in a row": lambda n: [asked(k) for k in range(n)],
    "answers in a row": lambda n: [asked(0), *(said(k) for k in range(n))],
    "system prompts": lambda n: [Message("system", (Text(f"rule {k}"),)) for k in range(n)],
    "reminders between": lambda n: [
     m for k in range(n) for m in (asked(k), Message("system", (Text("be good"),)))],
    "texts of one question": lambda n: asking(*(Text(f"text {k}") for k in range(n))),
    "texts of one answer": lambda n: [asked(0),
     Message("assistant", tuple(Text(f"text {k}", {"content_index": k} if k else None) for k in range(n)))],
    "thoughts of one answer": lambda n: [asked(0), Message("assistant", tuple(thought(k) for k in range(n)))],
    "pictures of one question": lambda n: asking(*(picture(k) for k in range(n))),
    "pictures, one each": lambda n: [Message("user", (picture(k),)) for k in range(n)],
    "calls, one after the other": lambda n: [
     message for k in range(n) for message in (Message("assistant", (call(k),)), result(k))],
    "calls at once, answered backwards": lambda n: [asked(0),
     Message("assistant", tuple(call(k) for k in range(n))), *(result(k) for k in reversed(range(n)))],
    "calls of one id": lambda n: [
     message for k in range(n) for message in (Message("assistant", (call(k, "c"),)), result(k, "c"))],
    "results of one turn": lambda n: [
     Message("user", tuple(part for k in range(n) for part in (Text("t"), *result(k).content)))],
    "pictures in results": lambda n: [
     message for k in range(n) for message in (Message("assistant", (call(k),)),
      Message("tool", (ToolResult(id=f"c{k}", content=(picture(k),)),)))],
}  # fmt: skip
"""Conversations by their name, `n` being how much."""


def shaped(shape: str, n: int, dialect: str) -> Request:
    return Request(dialect=dialect, model="m", messages=tuple(SHAPES[shape](n)))


def told(shape: str, dialect: str, n: int) -> Work:
    """A conversation, written as its own dialect's and as another's, and read."""
    other = CHAT if dialect != CHAT else GEMINI
    codec, own, foreign = DIALECTS[dialect], shaped(shape, n, dialect), shaped(shape, n, other)
    document = codec.render_request(own)

    def work() -> None:
        codec.render_request(own)
        codec.render_request(foreign)
        codec.parse_request(document)

    return work


def answered(dialect: str, part: Callable[[int], Any], n: int) -> Work:
    """A whole answer, written and read."""
    codec, response = DIALECTS[dialect], Response(tuple(part(k) for k in range(n)), id="i", model="m")
    request = Request(dialect=dialect, model="m", messages=(asked(0),))

    def work() -> None:
        codec.parse_response(codec.render_response(response, request))
        codec.render_response(response, Request(dialect=COMPLETIONS, model="m", messages=(asked(0),)))

    return work


def offered(dialect: str, n: int) -> Work:
    """Tools, written and read; and named so that a provider's wire allows them."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = tuple(Tool(name=f"a b{k}", description="d", parameters=schema) for k in range(n))
    request = Request(dialect=dialect, model="m", messages=(asked(0),), tools=tools)
    codec = DIALECTS[dialect]

    def work() -> None:
        codec.parse_request(codec.render_request(ToolNames(request, codec).request(request)))

    return work


def read(body: bytes) -> Work:
    """A body, decoded; at its beginning stands so much text that it is large, however little the rest is."""
    large = body[:1] + (b'"a":' if body[:1] == b"{" else b"") + b'"%b",' % (b"a" * 600_000) + body[1:]
    return lambda: trio.run(read_body, large, 1_000_000)


def remembered(dialect: str, n: int) -> Work:
    """A conversation, read again with one message more."""
    codec = DIALECTS[dialect]
    before, after = (codec.render_request(shaped("questions and answers", k, dialect)) for k in (n, n + 1))

    def work() -> None:
        memory = Memory()
        for document in (before, after, before):
            codec.parse_request(document, memory=memory)

    return work


def parsed(dialect: str, document: dict[str, Any]) -> Work:
    return partial(DIALECTS[dialect].parse_request, {"model": "m", **document})


def joined(items: list[bytes]) -> bytes:
    return b'{"model":"m","messages":[' + b",".join(items) + b"]}"


def nested(n: int) -> list[Any]:
    return [{"a": [{"b": "\ud800"}]} for _ in range(n)]


DOCUMENTS: dict[str, Make] = {
    **{f"{shape}, {dialect}": partial(told, shape, dialect) for shape in SHAPES for dialect in SPOKEN},
    **{
        f"an answer of {name}, {dialect}": partial(answered, dialect, part)
        for dialect in SPOKEN
        for name, part in (("texts", lambda k: Text(f"{k}")), ("thoughts", thought), ("calls", call))
    },
    **{f"tools, {dialect}": partial(offered, dialect) for dialect in SPOKEN},
    **{f"known content parsed again, {dialect}": partial(remembered, dialect) for dialect in SPOKEN},
    "prompts of completions": lambda n: parsed(COMPLETIONS, {"prompt": "x " * n * 100}),
    "token ids of completions": lambda n: parsed(COMPLETIONS, {"prompt": [list(range(n))]}),
    "unknown fields": lambda n: parsed(
        CHAT, {"messages": [{"role": "user", "content": "a"}], **{f"k{k}": k for k in range(n)}}
    ),
    "items of a document": lambda n: read(joined([b'{"role":"user","content":"a"}'] * n)),
    "prose of a document": lambda n: read(joined([b'"a, b, {c} and [d]"'] * n)),
    "quotes of a document": lambda n: read(joined([b'"' + b'\\", \\\\' * 10 + b'"'] * n)),
    "one text of a document": lambda n: read(joined([b'"' + b"a," * 50 * n + b'"'])),
    "one text of backslashes": lambda n: read(joined([b'"' + b"\\\\" * 50 * n + b'"'])),
    "keys of a document": lambda n: read(b"{" + b",".join(b'"k%d":1' % k for k in range(n)) + b"}"),
    "lists of a document": lambda n: read(joined([b"[]"] * n)),
    "cut surrogates of a document": lambda n: partial(decode_json, json.dumps(["\ud83d"] * n)),
    "surrogates of a value": lambda n: partial(mended, nested(n)),
    "surrogates of a text": lambda n: partial(mended, "\ud83d" * n * 10),
}
