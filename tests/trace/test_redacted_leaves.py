"""No secret is recorded, wherever in a request an agent writes it: every string and every member's name is tried."""

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from tests.asking import bearer, url_of
from tests.trace.leaves import RICH, with_each_leaf
from triocept import Exchange, JSONLRecorder, Message, Request, read_traces, serve_endpoint
from triocept._trace.redaction import Redactor
from triocept._util.secrets import MARK
from triocept.dialects import DIALECTS
from triocept.errors import DialectError
from triocept.exports import FORMATS, write_export
from triocept.traces import Redaction
from triocept.types import Media

KEY = "sk-triocept-abcdefghijklmnopqrstuvwxyz0123456789_-ABCDE"
CARD = "4929123456781234"
encode = msgspec.json.encode


def strings(value: Any) -> Iterator[str]:
    """Every string in this JSON, and what it is the base64 of."""
    match value:
        case str():
            yield value
            try:
                yield b64decode(value.rpartition(",")[2], validate=True).decode()
            except (binascii.Error, ValueError):
                pass
        case dict():
            for name, inner in value.items():
                yield from (name, *strings(inner))
        case list():
            for inner in value:
                yield from strings(inner)


def recorded_leaves(dialect: str, secret: str, redactor: Redactor) -> Iterator[tuple[str, Request]]:
    """The requests with the secret in one place each that the dialect accepts, as they are recorded."""
    for path, document in with_each_leaf(RICH[dialect], secret):
        try:
            request = DIALECTS[dialect].parse_request(document)
        except DialectError:
            continue  # an agent that sends it is refused
        yield path, redactor.request(request)


@pytest.mark.parametrize("dialect", RICH)
def test_a_key_is_not_recorded_and_not_exported_wherever_an_agent_writes_it(dialect: str) -> None:
    leaking, tried = [], 0
    for path, kept in recorded_leaves(dialect, KEY, Redactor()):
        tried += 1
        wire = DIALECTS[dialect].render_request(kept)  # as the HTTP archive has it
        if any(KEY in text for text in strings([json.loads(encode(kept)), json.loads(encode(wire))])):
            leaking.append(path)
    assert leaking == []
    assert tried > 5


@pytest.mark.parametrize("dialect", RICH)
def test_what_a_pattern_matches_is_not_recorded_in_an_encoding_wherever_an_agent_writes_it(
    dialect: str,
) -> None:
    leaking = []
    for path, kept in recorded_leaves(dialect, f"card {CARD}", Redactor(Redaction([r"\d{16}"]))):
        plain = encode(kept).decode()
        if CARD not in plain and any(CARD in text for text in strings(json.loads(plain))):
            leaking.append(path)
    assert leaking == []


def document_of(text: str) -> dict[str, Any]:
    """Anthropic's plain-text document."""
    return {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": text},
        "title": "n",
    }


@pytest.mark.parametrize("where", ["message", "result"])
async def test_a_text_document_is_redacted_in_every_record_and_the_model_reads_it_whole(
    where: str, tmp_path: Path
) -> None:
    file, seen = tmp_path / "t.jsonl", list[Request]()

    async def answer(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await exchange.respond("read")

    async with serve_endpoint(
        recorder=JSONLRecorder(file), redact=Redaction([r"\d{16}"]), record_wire=True
    ) as endpoint:
        async with endpoint.open_rollout(answer) as rollout:
            said = f"é {rollout.api_key} card {CARD}."
            part = document_of(said)
            if where == "result":
                part = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [part]}
            asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [part]}]}
            async with httpx2.AsyncClient() as client:
                for _ in range(2):
                    reply = await client.post(
                        url_of(rollout, "anthropic_messages"), json=asked, headers=bearer(rollout)
                    )
                    assert reply.status_code == 200
    sent = DIALECTS["anthropic_messages"].render_request(seen[0])
    assert said in [*strings(json.loads(encode(sent)))]
    (trace,) = read_traces(file)
    assert trace.sealed
    assert trace == rollout.trace
    kept = [*strings(json.loads(encode(trace[0].request)))]
    assert f"é {MARK} card {MARK}." in kept
    assert trace[0].request.messages == trace[1].request.messages
    for name, form in FORMATS.items():
        if name == "parquet" or form.write is None:
            continue
        write_export([trace], name, tmp_path / name)
        written = (tmp_path / name).read_text()
        for secret in (rollout.api_key, CARD, *map(unaligned, (rollout.api_key, CARD))):
            assert secret not in written, name


def unaligned(text: str) -> str:
    """Base64 that stands in that of any text in which this one begins at a third byte."""
    return b64encode(text.encode()[: len(text) // 3 * 3]).decode()


@pytest.mark.parametrize(("dialect", "part"), [
    ("gemini", lambda data: {"inlineData": {"mimeType": "text/csv", "data": data}}),
    ("openai_chat", lambda data: {"type": "file", "file": {"file_data": f"data:text/plain;base64,{data}"}}),
    ("openai_responses", lambda data: {"type": "input_file", "file_data": f"data:text/x;base64,{data}"}),
    ("anthropic_messages",
     lambda data: {"type": "document", "source": {"type": "base64", "media_type": "text/html", "data": data}}),
])  # fmt: skip
@pytest.mark.parametrize("redaction", [None, Redaction(["never"])])
def test_a_text_file_that_an_agent_has_encoded_is_looked_into(
    dialect: str, part: Any, redaction: Redaction | None
) -> None:
    data = b64encode(f"<{KEY}>".encode()).decode()
    match dialect:
        case "gemini":
            document: Any = {"model": "m", "contents": [{"role": "user", "parts": [part(data)]}]}
        case "openai_responses":
            document = {"model": "m", "input": [{"role": "user", "content": [part(data)]}]}
        case _:
            document = {
                "model": "m",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": [part(data)]}],
            }
    kept = Redactor(redaction).request(DIALECTS[dialect].parse_request(document))
    assert f"<{MARK}>" in [*strings(json.loads(encode(kept)))]
    assert KEY not in [*strings(json.loads(encode(kept)))]


@pytest.mark.parametrize("redaction", [None, Redaction(["never"])])
@pytest.mark.parametrize("media", [
    Media(kind="file", media_type="text/plain", data="bm90aGluZw=="),
    Media(kind="file", media_type="text/plain", data="bm90aGluZw", extra={"x": 1}),
    Media(kind="file", media_type="text/plain", data="no base64", extra={"x": 1}),
    Media(kind="file", media_type="text/plain", data="//79", extra={"x": 1}),
    Media(kind="file", media_type="text/plain", url="http://h/f"),
])  # fmt: skip
def test_a_file_without_a_secret_or_without_a_text_stays_the_very_same_object(
    media: Media, redaction: Redaction | None
) -> None:
    message = Message("user", (media,))
    assert Redactor(redaction).message(message) is message
