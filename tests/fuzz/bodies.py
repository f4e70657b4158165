"""The body of a model call, in each dialect: an error with a place, or a value that any answer can be given to.

A document is made from the SDKs' types, then changed as JSON, or as bytes. It is read with and without a memory of an
earlier call, written again in its own dialect and in another, and answered: whole, as a stream, and through `intake`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from random import Random
from typing import Any

import msgspec

from triocept._canonical.content import Text
from triocept._canonical.events import assemble, events_of
from triocept._canonical.given import given_response
from triocept._canonical.memory import Memory
from triocept._canonical.request import Request
from triocept._canonical.response import Response
from triocept._server.failure import failure_of
from triocept.dialects import DIALECTS, Dialect
from triocept.dialects.base import Target
from triocept.dialects.kit import decode_json, encode_json
from triocept.errors import DialectError

from .answers import Said, answer_of, any_answer, essence, said, spoken
from .calls import Calls, open_calls
from .kind import Check, Input, Kind, Unfit, Violation, as_bytes, as_text, expect
from .left import same_process
from .mutate import cut_up, mutated, mutated_json, written
from .sdk_types import asked_by, made_of
from .where import where

PATHS = {
    "openai_chat": ["/v1/chat/completions"],
    "openai_completions": ["/v1/completions"],
    "openai_responses": ["/v1/responses", "/responses"],
    "anthropic_messages": ["/v1/messages", "/v1/messages?beta=true"],
    "gemini": [
        "/v1beta/models/m:generateContent",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        "/v1beta/models/m:streamGenerateContent",
    ],
    "ollama": ["/api/chat"],
}
NEEDED: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "hi"}]},
    "openai_completions": {"model": "m", "prompt": "hi"},
    "openai_responses": {"model": "m", "input": "hi"},
    "anthropic_messages": {"messages": [{"role": "user", "content": "hi"}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "ollama": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}
FRESH = Target()


NAMES = sorted(DIALECTS)
DOCUMENTS = 2000
"""Of each dialect: to make one takes longer than to change it."""


@cache
def _document(name: str, number: int) -> Any:
    """What nothing is wrong with."""
    made = made_of(Random(f"{name}/{number}"), asked_by(name))
    return {**NEEDED[name], **{key: value for key, value in made.items() if value or value is False}}


def generate(random: Random) -> Input:
    name = random.choice(NAMES)
    document = _document(name, random.randrange(DOCUMENTS))
    if random.random() < 0.5:
        document = {**document, "stream": random.random() < 0.7}
    changed = (
        mutated_json(random, document, most=random.choice((1, 1, 2, 5)))
        if random.random() < 0.7
        else document
    )
    body = written(random, changed)
    return {
        "dialect": name, "path": random.choice(PATHS[name]), "before": document,
        "body": mutated(random, body) if random.random() < 0.15 else body,
        "answer": any_answer(random), "other": random.choice(NAMES), "streamed": random.random() < 0.5,
        "cuts": random.randrange(2**32),
    }  # fmt: skip


@asynccontextmanager
async def open_check() -> AsyncIterator[Check]:
    with same_process():
        async with open_calls() as calls:

            async def check(value: Input) -> None:
                await _check(value, calls)

            yield check


async def _check(value: Input, calls: Calls) -> None:
    try:
        dialect, other = DIALECTS[value["dialect"]], DIALECTS[value["other"]]
        path, _, query = value["path"].partition("?")
        target = dialect.match(path, query)
        body, answer, before = as_bytes(value["body"]), answer_of(value["answer"]), value["before"]
        random = Random(value["cuts"])
    except (KeyError, TypeError, AttributeError, UnicodeError) as exc:
        raise Unfit from exc
    if target is None:
        raise Unfit
    try:
        request = _read(dialect, body, target, before)
        if request is not None:
            _written_again(dialect, other, request)
            wanted = _answered(dialect, request, answer, random)
        else:
            wanted = None
        streamed = bool(value.get("streamed"))
        if random.random() < 0.5:
            return
        await calls.make(dialect, value["path"], body, answer, request, wanted, streamed=streamed)
        calls.log.take()
    except (Violation, Unfit):
        raise
    except Exception as exc:
        raise Violation("an exception", where(exc)) from exc


def _read(dialect: Dialect, body: bytes, target: Target, before: Any) -> Request | None:
    """The request, read afresh and with a memory; None: it is none, and its error is one."""
    try:
        document = decode_json(body)
        kept = encode_json(document)
        request = dialect.parse_request(document, target)
    except DialectError as exc:
        _is_error(dialect, exc)
        _is_error_again(dialect, body, target, before, exc)
        return None
    expect(encode_json(document) == kept, "reading a document has changed it")
    memory = _memory(dialect, target, before)
    for _ in range(2):
        again = dialect.parse_request(document, target, memory)
        expect(again == request, "a memory changes what is read", f"{again}\n{request}")
    msgspec.json.encode(request)
    return request


def _memory(dialect: Dialect, target: Target, before: Any) -> Memory:
    """Of a call before."""
    memory = Memory()
    with suppress(DialectError):
        dialect.parse_request(before, target, memory)
    return memory


def _is_error_again(dialect: Dialect, body: bytes, target: Target, before: Any, exc: DialectError) -> None:
    """With a memory of a call before, it is the same error."""
    try:
        document = decode_json(body)
    except DialectError:
        return
    if _is_blurred(document, before):
        return
    try:
        again: Any = dialect.parse_request(document, target, _memory(dialect, target, before))
    except DialectError as other:
        again = str(other)
    expect(again == str(exc), "a memory changes what is read", f"{again}\n{exc}")


def _is_blurred(document: Any, before: Any) -> bool:
    """Whether a list has `true` where that of the call before has 1: in lists a memory takes them for one."""
    if not isinstance(document, dict) or not isinstance(before, dict):
        return False
    lists = [(value, before.get(name)) for name, value in document.items() if isinstance(value, list)]
    pairs = [pair for new, old in lists if isinstance(old, list) for pair in zip(new, old, strict=False)]
    return any(new == old and encode_json(new) != encode_json(old) for new, old in pairs)


def _is_error(dialect: Dialect, exc: DialectError) -> None:
    """What the agent gets of it is an error of its dialect, with a place."""
    failure = failure_of(exc, 0)
    document = msgspec.json.decode(msgspec.json.encode(dialect.render_error(failure)))
    error = document["error"]
    said = error if dialect.name == "ollama" else error["message"]
    expect(isinstance(said, str) and said, "an error says nothing", document)
    expect(400 <= failure.status < 500, "an error of the agent is no 4xx", failure)
    expect(len(str(exc)) < 1000, "an error is long", str(exc)[:300])
    if dialect.name == "anthropic_messages":
        expect(document["type"] == "error" and error["type"], "an error is not of its dialect", document)
    if dialect.name == "gemini":
        expect(
            error["code"] == failure.status and error["status"], "an error is not of its dialect", document
        )


def _written_again(dialect: Dialect, other: Dialect, request: Request) -> None:
    """What can be said in a dialect is read there again."""
    for writer in {dialect, other}:
        try:
            first = writer.render_request(request)
        except DialectError as exc:
            expect(len(str(exc)) < 1000, "an error is long", str(exc)[:300])
            continue
        first = decode_json(encode_json(first))
        target = Target(model=request.model or "m", stream=request.stream)
        try:
            again = writer.parse_request(first, target)
        except DialectError as exc:
            expect(
                "must not be empty" in str(exc), "what was written cannot be read", exc
            )  # all of it was another's own
            continue
        second = decode_json(encode_json(writer.render_request(again)))
        third = decode_json(encode_json(writer.render_request(writer.parse_request(second, target))))
        expect(third == second, "a document, read and written again, is another", f"{second}\n{third}")


def _answered(dialect: Dialect, request: Request, answer: Response, random: Random) -> Said | None:
    """The answer, written whole and as a stream, is read again, and is one. What it says; None: it cannot be said."""
    given = given_response(answer)
    try:
        whole = _whole(dialect, given, request)
    except DialectError:
        expect(dialect.name == "openai_completions" and given.tool_calls, "an answer cannot be said", given)
        return None
    texts = [spoken(part.text).strip() for part in answer.content if isinstance(part, Text)]
    expect(all(text in whole.text for text in texts), "an answer has lost text", f"{whole}\n{given}")
    expect(_whole(dialect, whole, request) == whole, "an answer, read and written again, is another", whole)
    if request.framing != "json_array":
        streamed = _streamed(dialect, whole, request, random)
        expect(essence(streamed) == essence(whole), "a stream is not the whole", f"{streamed}\n{whole}")
        directly = _streamed(dialect, dialect.streamed(given), request, random)
        expect(
            said(directly) == said(whole), "a stream does not say what the whole says", f"{directly}\n{whole}"
        )
    return said(whole)


def _whole(dialect: Dialect, response: Response, request: Request) -> Response:
    return dialect.parse_response(decode_json(encode_json(dialect.render_response(response, request))))


def _streamed(dialect: Dialect, response: Response, request: Request, random: Random) -> Response:
    renderer, parser = dialect.stream_renderer(request), dialect.stream_parser()
    data = b"".join([renderer.render(event) for event in events_of(response)])
    events = [event for piece in cut_up(random, as_text(data)) for event in parser.feed(as_bytes(piece))]
    return assemble([*events, *parser.close()])


BODIES = Kind("bodies", generate, open_check, batch=2000)
