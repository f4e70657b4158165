"""Any request, any response, any stream of events, as hypothesis strategies.

Each is made once: to look through the types of a strategy takes hypothesis five times as long as to draw from it.
"""

import base64
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st

from triocept._canonical.content import (
    Blob,
    Media,
    Message,
    Opaque,
    Reasoning,
    RefusalText,
    Text,
    ToolCall,
    ToolResult,
)
from triocept._canonical.events import Event, ResponseEnd, ResponseStart, events_of
from triocept._canonical.request import OutputFormat, ReasoningAsk, Request, Sampling, Tool, ToolChoice
from triocept._canonical.response import Response, Usage

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)
plain_words = st.text('abc xyz\n\r\u2028é😀"\\', min_size=1, max_size=12)
texts = st.one_of(plain_words, words)
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
ids = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), st.sampled_from(["call.1", "a:b", "ü"]))
scalars = st.one_of(st.booleans(), st.integers(-9, 9), names)
any_json: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), scalars, st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
# Names that no wire uses: what nobody understands.
extras = st.one_of(st.none(), st.dictionaries(names.map("x_".__add__), scalars, min_size=1, max_size=2))
arguments = st.one_of(
    st.dictionaries(names, scalars, max_size=2).map(lambda value: msgspec.json.encode(value).decode()),
    st.sampled_from(["{}", "[1]", '{"cut": ', "not JSON", '"text"', "\ud7ff"]),
)
images = st.binary(min_size=1, max_size=6).map(lambda data: base64.b64encode(data).decode())


@cache
def opaques(dialect: str) -> st.SearchStrategy[Opaque]:
    raw = st.fixed_dictionaries({"type": names.map("x_".__add__), "value": scalars})
    return st.builds(Opaque, st.sampled_from([dialect, "another"]), raw)


@cache
def medias() -> st.SearchStrategy[Media]:
    kinds = st.sampled_from(["image", "audio", "file"])
    return st.one_of(
        st.builds(Media, kind=kinds, url=st.just("https://example.org/a"), extra=extras),
        st.builds(
            Media, kind=kinds, data=images, media_type=st.sampled_from([None, "image/png", "text/plain"])
        ),
        st.builds(Media, kind=st.just("file"), data=images, name=names, extra=extras),
    )


@cache
def reasonings(dialect: str) -> st.SearchStrategy[Reasoning]:
    blobs = {
        "anthropic_messages": st.one_of(
            st.builds(Blob, st.just(dialect), st.just("signature"), names),
            st.builds(Blob, st.just(dialect), st.just("redacted"), names),
        ),
        "openai_responses": st.builds(Blob, st.just(dialect), st.just("encrypted_content"), names),
        "gemini": st.builds(Blob, st.just(dialect), st.just("thought_signature"), names),
        "openai_chat": st.builds(
            Blob, st.just(dialect), st.just("reasoning_details"),
            st.just('{"type":"reasoning.encrypted","data":"d"}'),
        ),
    }  # fmt: skip
    other = st.builds(Blob, st.just("another"), st.just("signature"), names)
    some = st.lists(st.one_of(blobs.get(dialect, other), other), max_size=2).map(tuple)
    return st.builds(Reasoning, st.one_of(st.just(""), texts), some)


@cache
def tool_calls() -> st.SearchStrategy[ToolCall]:
    return st.builds(ToolCall, names, arguments, st.one_of(st.just(""), ids), extra=extras)


@cache
def results(dialect: str) -> st.SearchStrategy[ToolResult]:
    inner = st.one_of(st.builds(Text, texts, extras), medias(), opaques(dialect))
    return st.builds(
        ToolResult,
        id=ids,
        content=st.lists(inner, max_size=2).map(tuple),
        is_error=st.booleans(),
        extra=extras,
    )


@cache
def messages(dialect: str) -> st.SearchStrategy[Message]:
    text = st.builds(Text, st.one_of(st.just(""), texts), extras)
    said = st.one_of(text, text, medias(), opaques(dialect))
    wrote = st.one_of(
        text, reasonings(dialect), tool_calls(), opaques(dialect), st.builds(RefusalText, texts)
    )
    return st.one_of(
        st.builds(Message, st.sampled_from(["system", "developer"]), st.tuples(text), extra=extras),
        st.builds(Message, st.just("user"), st.lists(said, max_size=2).map(tuple), extra=extras),
        st.builds(Message, st.just("user"), st.tuples(results(dialect), said)),
        st.builds(Message, st.just("assistant"), st.lists(wrote, max_size=3).map(tuple), extra=extras),
        st.builds(Message, st.just("tool"), st.tuples(results(dialect))),
    )


@cache
def tools() -> st.SearchStrategy[Tool]:
    schema = st.dictionaries(names, scalars, max_size=2)
    return st.builds(
        Tool,
        name=names,
        description=st.one_of(st.none(), texts),
        parameters=schema,
        strict=st.one_of(st.none(), st.booleans()),
        extra=extras,
    )


@cache
def samplings() -> st.SearchStrategy[Sampling]:
    number = st.one_of(st.none(), st.floats(0, 2))
    return st.builds(
        Sampling,
        max_output_tokens=st.one_of(st.none(), st.integers(1, 99_999)),
        temperature=number,
        top_p=number,
        top_k=st.one_of(st.none(), st.integers(1, 99)),
        stop=st.lists(texts, max_size=2).map(tuple),
    )


@cache
def any_request(dialect: str) -> st.SearchStrategy[Request]:
    """Requests that came in `dialect`, with everything that it may hold."""
    return st.builds(
        Request,
        dialect=st.just(dialect),
        model=names,
        messages=st.lists(messages(dialect), min_size=1, max_size=4).map(tuple),
        tools=st.lists(tools(), max_size=2).map(tuple),
        tool_choice=st.one_of(
            st.none(),
            st.builds(ToolChoice, mode=st.sampled_from(["auto", "none", "required"])),
            st.builds(ToolChoice, mode=st.just("tool"), name=names),
        ),
        parallel_tool_calls=st.one_of(st.none(), st.booleans()),
        stream=st.booleans(),
        include_usage=st.booleans(),
        sampling=samplings(),
        reasoning=st.one_of(
            st.none(),
            st.builds(ReasoningAsk, effort=st.sampled_from(["low", "high", "none"])),
            st.builds(ReasoningAsk, budget_tokens=st.integers(1024, 9999)),
        ),
        output_format=st.one_of(
            st.none(),
            st.builds(
                OutputFormat, kind=st.just("json_schema"), name=names, schema=st.just({"type": "object"})
            ),
            st.just(OutputFormat(kind="json_object")),
        ),
        user=st.one_of(st.none(), names),
        extra=extras,
    ).map(lambda request: sayable(request, dialect))


def sayable(request: Request, dialect: str) -> Request:
    """The request, without what `dialect` has no words for in its requests."""
    if dialect == "ollama":
        return msgspec.structs.replace(request, user=None, tool_choice=None)
    if dialect == "gemini":
        offered = tuple(msgspec.structs.replace(tool, strict=None) for tool in request.tools)
        return msgspec.structs.replace(request, tools=offered, user=None)
    if dialect != "openai_completions":
        return request
    said = tuple(
        msgspec.structs.replace(
            message,
            content=tuple(part for part in message.content if isinstance(part, Text | Reasoning | Opaque)),
        )
        for message in request.messages
    )
    return msgspec.structs.replace(request, messages=said, tools=())


@cache
def usages() -> st.SearchStrategy[Usage]:
    some = st.one_of(st.none(), st.integers(0, 40))
    return st.builds(
        Usage,
        input_tokens=st.integers(80, 999),
        output_tokens=st.integers(40, 999),
        cached_tokens=some,
        cache_write_tokens=some,
        reasoning_tokens=some,
        extra=extras,
    )


@cache
def any_response(dialect: str) -> st.SearchStrategy[Response]:
    """Responses that came in `dialect`."""
    text = st.builds(Text, st.one_of(st.just(""), texts))
    parts = st.one_of(
        text, reasonings(dialect), tool_calls(), st.builds(RefusalText, texts), opaques(dialect)
    )
    return st.builds(
        Response,
        st.lists(parts, max_size=4).map(tuple),
        stop_reason=st.sampled_from([None, "end", "max_tokens", "refused", "context_full"]),
        usage=st.one_of(st.none(), usages()),
        model=st.one_of(st.just(""), names),
        id=st.one_of(st.just(""), names),
        extra=extras,
        dialect=st.sampled_from(["", dialect]),
    ).map(lambda response: sayable_answer(response, dialect))


def sayable_answer(response: Response, dialect: str) -> Response:
    """The response, without what `dialect` has no words for in its answers."""
    if dialect == "gemini" and response.usage is not None:
        usage = msgspec.structs.replace(response.usage, cache_write_tokens=None)
        return msgspec.structs.replace(response, usage=usage)
    if dialect == "ollama" and response.usage is not None:
        counts = Usage(input_tokens=response.usage.input_tokens, output_tokens=response.usage.output_tokens)
        return msgspec.structs.replace(response, usage=counts)
    if dialect != "openai_completions":
        return response
    said = tuple(part for part in response.content if not isinstance(part, ToolCall))
    return msgspec.structs.replace(response, content=said)


@st.composite
def interleaved(draw: st.DrawFn, dialect: str) -> tuple[Response, list[Event]]:
    """A response, and its events with its parts interleaved in any order that the grammar allows."""
    response = draw(any_response(dialect))
    events = list(events_of(response))
    parts: dict[int, list[Event]] = {}
    for event in events:
        if not isinstance(event, ResponseStart | ResponseEnd):
            parts.setdefault(event.index, []).append(event)
    mixed: list[Event] = [events[0]]
    waiting, running = list(parts.values()), []
    while waiting or running:
        if waiting and (not running or draw(st.booleans())):
            running.append(waiting.pop(0))
            mixed.append(running[-1].pop(0))
        else:
            one = running[draw(st.integers(0, len(running) - 1))]
            mixed.append(one.pop(0))
        running = [each for each in running if each]
    return response, [*mixed, events[-1]]


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The bytes in pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(edges)]
