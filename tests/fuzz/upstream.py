"""What a provider sends: the same result however it is split, and no error but `UpstreamError`.

An answer is written by a dialect's own renderer, or made of the SDKs' types; then it is changed, put into chunks, and
read: as chunks, as server-sent events, as frames of a relay, as a dialect's stream, and as a whole document.
"""

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from typing import Any, ClassVar, TypeAlias

import msgspec

from triocept._canonical.events import Fold, events_of
from triocept._canonical.given import given_response
from triocept._canonical.request import Request
from triocept._upstream.chunked import ChunkedDecoder
from triocept._upstream.failures import Reader
from triocept._upstream.relay import Frames, Pieces, Relay
from triocept._util.sse import SSEDecoder
from triocept.dialects import DIALECTS, Dialect
from triocept.dialects.kit import decode_json, encode_json
from triocept.errors import DialectError, UpstreamError

from .answers import answer_of, any_answer
from .kind import Check, Input, Kind, Unfit, Violation, as_bytes, as_text, expect
from .left import same_process, watched_log
from .mutate import cut_up, mutated, mutated_json, written
from .tapped import tapped
from .where import where

Result: TypeAlias = tuple[Any, str]
"""What was read, and the error behind it; no text where there is none."""
KEY = "sk-provider-key-0123456789"
SLOW = 0.15
"""Seconds of CPU time, from which on it is asked whether twice as much takes four times as long."""


NAMES = sorted(DIALECTS)


ANSWERS = 2000
"""Of each dialect: to write one takes longer than to change it."""
OF_A_STREAM = ("events", "frames", "parser", "relay", "pieces")
READINGS = (*OF_A_STREAM, "chunks", "tap", "document")


def generate(random: Random) -> Input:
    name = random.choice(NAMES)
    stream = random.random() < 0.7
    body = _written(name, random.randrange(ANSWERS), stream=stream)
    body = _changed_stream(random, body) if stream else _changed_document(random, body)
    if random.random() < 0.4:
        body = mutated(random, body)
    if random.random() < 0.0003:
        body = _long(random, body)
    reads = random.sample(OF_A_STREAM, 2) if stream else ["document", random.choice(OF_A_STREAM)]
    pieces = cut_up(random, body)
    if random.random() < 0.2:
        reads, pieces = ["chunks", "tap"], cut_up(random, _coded(random, pieces))
    return {
        "dialect": name, "reads": reads, "pieces": pieces,
        "status": random.choice((200, 200, 200, 400, 429, 500, 302, 204)),
        "held": random.random() < 0.5, "agents": random.sample(NAMES, 2), "bytes": random.random() < 0.03,
    }  # fmt: skip


@cache
def _written(name: str, number: int, *, stream: bool) -> str:
    """An answer that nothing is wrong with: an SSE stream, or a document."""
    random, dialect = Random(f"{name}/{number}"), DIALECTS[name]
    request = Request(
        dialect=name, model="m", messages=(), stream=stream, include_usage=random.random() < 0.5
    )
    answer = given_response(answer_of(any_answer(random)))
    try:
        if not stream:
            return _same(as_text(encode_json(dialect.render_response(answer, request))))
        renderer = dialect.stream_renderer(request)
        return _same("".join([as_text(renderer.render(event)) for event in events_of(answer)]))
    except DialectError:
        return ""


def _coded(random: Random, pieces: list[str]) -> str:
    """In chunks, some of them wrong."""
    chunks = "".join([_chunk(random, piece) for piece in pieces if piece])
    coded = f"{chunks}0\r\n{random.choice(('', '', 'a: b' + chr(13) + chr(10)))}\r\n"
    return mutated(random, coded) if random.random() < 0.5 else coded


def _changed_stream(random: Random, whole: str) -> str:
    """A stream, some of its events left out, doubled or changed."""
    frames = [f"{frame}\n\n" for frame in whole.split("\n\n") if frame]
    for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
        if not frames:
            break
        at = random.randrange(len(frames))
        match random.randrange(6):
            case 0:
                del frames[at]
            case 1:
                frames.insert(at, random.choice(frames))
            case 2:
                frames.insert(at, random.choice(NOTHING))
            case _:
                frames[at] = _changed(random, frames[at])
    end = random.choice(("\n", "\n", "\n", "\r\n", "\r"))
    return "".join(frames).replace("\n", end)


NOTHING = (": comment\n\n", "event: ping\ndata: {}\n\n", "data: [DONE]\n\n", "\n", "data:\n\n")


def _changed_document(random: Random, whole: str) -> str:
    """A whole answer, or an error, changed."""
    document = decode_json(as_bytes(whole)) if whole else {}
    if random.random() < 0.3:
        kind = random.choice(("context_length_exceeded", "rate_limit_error", 1, None))
        error = {"message": random.choice(("no", "\x1b[31m", KEY, "")), "type": kind, "code": kind}
        document = random.choice(
            ({"error": error}, {"type": "error", "error": error}, [{"error": error}], {"detail": error})
        )
    if random.random() < 0.8:
        document = mutated_json(random, document)
    return random.choice(("", "", " ", "\xef\xbb\xbf")) + written(random, document)


_ID = re.compile(r"(?<=_|-)[0-9a-f]{16,40}|(?<=responseId\":\")\w+|(?<=_at\":)\d+|(?<=created\":)\d+")


def _same(text: str) -> str:
    """The text, without what is new each time."""
    return _ID.sub(lambda found: "1" * len(found[0]), text)


def _changed(random: Random, frame: str) -> str:
    """One event, its document changed."""
    head, found, data = frame.partition("data: ")
    try:
        document = decode_json(as_bytes(data))
    except DialectError:
        return mutated(random, frame)
    changed = written(random, mutated_json(random, [document], most=2)).strip("[]").replace("\n", "")
    return f"{head}{found}{changed}\n\n"


def _long(random: Random, body: str) -> str:
    """The same in one frame of many lines: what is searched again for each of them takes for ever."""
    line = random.choice((": ping\n", "x: 1\n", "data: \n", "event: a\n", "\r"))
    return line * random.choice((2000, 8000)) + body


def _chunk(random: Random, piece: str) -> str:
    return f"{len(piece):{random.choice('xX')}}{random.choice(('', '', ';a=b', ' '))}\r\n{piece}\r\n"


@asynccontextmanager
async def open_check() -> AsyncIterator[Check]:
    with same_process(), watched_log() as log:

        async def check(value: Input) -> None:
            try:
                dialect, reads = DIALECTS[value["dialect"]], value.get("reads", READINGS)
                pieces = [as_bytes(piece) for piece in value["pieces"]]
                status, held = int(value.get("status", 200)), bool(value.get("held"))
                single, agents = (
                    bool(value.get("bytes")),
                    [DIALECTS[name] for name in value.get("agents", ())],
                )
            except (KeyError, TypeError, AttributeError, UnicodeError, ValueError) as exc:
                raise Unfit from exc
            try:
                for name, read in readers(dialect, held=held).items():
                    if name in reads:
                        _alike(read, pieces, single=single)
                if "document" in reads:
                    _whole(dialect, status, b"".join(pieces), agents)
                if "pieces" in reads:
                    await _relayed(dialect, pieces, held=held)
            except Violation:
                raise
            except Exception as exc:
                raise Violation("an exception", where(exc)) from exc
            log.take()

        yield check


Read: TypeAlias = Callable[[list[bytes]], Result]


def readers(dialect: Dialect, *, held: bool) -> dict[str, Read]:
    """What reads a provider's bytes."""
    return {
        "events": _events,
        "frames": _framed,
        "parser": lambda pieces: _parsed(dialect, pieces),
        "relay": lambda pieces: _relay(dialect, pieces, held),
        "chunks": _chunked,
        "tap": lambda pieces: tapped(pieces, go_on=held),
    }


def _alike(read: Read, pieces: list[bytes], *, single: bool) -> None:
    """In whatever pieces: the same."""
    data = b"".join(pieces)
    split, whole = read(pieces), read([data])
    each = read([data[at : at + 1] for at in range(len(data))]) if single and len(data) < 1000 else whole
    for other in (split, each):
        expect(other[1] == whole[1], "split otherwise, another error", f"{other[1]!r} is not {whole[1]!r}")
        if not whole[1]:
            expect(other[0] == whole[0], "split otherwise, another result", f"{other[0]}\n{whole[0]}")
    if len(data) > 8000:
        _linear(read, data)


def _linear(read: Read, data: bytes) -> None:
    """Twice as many bytes, a few at a time, take about twice as long."""

    def seconds(data: bytes) -> float:
        pieces = [data[at : at + 8] for at in range(0, len(data), 8)]
        begun = time.thread_time()
        read(pieces)
        return time.thread_time() - begun

    half, all_of_it = seconds(data[: len(data) // 2]), seconds(data)
    if all_of_it > SLOW and all_of_it > 3 * half:
        half, all_of_it = seconds(data[: len(data) // 2]), seconds(data)
        expect(all_of_it <= 3 * half, "time grows with the square", f"{half:.2f} s and {all_of_it:.2f} s")


def _events(pieces: list[bytes]) -> Result:
    decoder = SSEDecoder()
    try:
        return [event for piece in pieces for event in decoder.feed(piece)], ""
    except DialectError as exc:
        return [], str(exc)


def _framed(pieces: list[bytes]) -> Result:
    frames = Frames()
    found = [frame for piece in pieces for frame in frames.feed(piece)]
    rest = frames.rest()
    expect(b"".join(found) + rest == b"".join(pieces), "a relay loses bytes", found)
    return [*found, rest], ""


def _parsed(dialect: Dialect, pieces: list[bytes]) -> Result:
    """By the dialect's own parser."""
    parser, fold, events = dialect.stream_parser(), Fold(), []
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                events.append(event)
                fold.add(event)
        for event in parser.close():
            events.append(event)
            fold.add(event)
    except UpstreamError as exc:
        return [], f"{type(exc).__name__} {exc}"
    except DialectError as exc:
        expect(
            "terminal" not in str(exc) and "never started" not in str(exc) and "twice" not in str(exc),
            "no grammar",
            exc,
        )
        return [], f"{type(exc).__name__} {exc}"
    expect(fold.ended, "a stream ends without its terminal event", events)
    msgspec.json.encode(fold.response())
    return events, ""


def _relay(dialect: Dialect, pieces: list[bytes], held: bool) -> Result:
    """As a relay passes it on."""
    relay = Relay(dialect.stream_parser(), hold_calls=held)
    data, events = b"", []
    try:
        for piece in pieces:
            if relay.failure is not None or relay.ended:
                break
            if (given := relay.feed(piece)) is not None:
                data += given.data or b""
                events += given.events
        if relay.failure is not None:
            raise relay.failure
        relay.close()
    except (UpstreamError, DialectError) as exc:
        return [], f"{type(exc).__name__} {exc}"
    last = relay.last()
    data += last.data or b""
    expect(
        b"".join(pieces).startswith(data) or dialect.stream_parser().left_out,
        "a relay makes bytes",
        data[-300:],
    )
    return (data, [*events, *last.events]), ""


def _chunked(pieces: list[bytes]) -> Result:
    """What is in the chunks before a fault counts, however they came."""
    decoder, body, fault = ChunkedDecoder(), b"", ""
    try:
        for piece in pieces:
            body += decoder.feed(piece)
            if decoder.ended:
                break
        decoder.check()
    except ValueError:
        fault = "no chunks"
    return (body, decoder.ended, fault), ""


def _whole(dialect: Dialect, status: int, body: bytes, agents: list[Dialect]) -> None:
    """As a document, or as the document of an error."""
    reader = Reader(dialect, KEY)
    try:
        response = reader.response(body, {})
    except UpstreamError as exc:
        _is_failure(exc)
    else:
        msgspec.json.encode(response)
        for agent in agents:
            _answered(agent, response)
    if status != 200:
        _is_failure(reader.failure(status, body, {"retry-after": "1"}, "https://e.org/v1"))


def _is_failure(exc: UpstreamError) -> None:
    expect(400 <= exc.status <= 599, "a provider's error has no status of an error", exc.status)
    expect(KEY not in f"{exc}{exc.body}", "a key is told", exc)
    msgspec.json.encode([exc.message, exc.body, exc.headers])


def _answered(dialect: Dialect, response: Any) -> None:
    """What a provider said, for an agent of any dialect."""
    for stream in (False, True):
        request = Request(dialect=dialect.name, model="m", messages=(), stream=stream)
        try:
            if stream:
                renderer = dialect.stream_renderer(request)
                data = b"".join([renderer.render(event) for event in events_of(dialect.streamed(response))])
                parser = dialect.stream_parser()
                parser.feed(data)
                parser.close()
            else:
                dialect.parse_response(decode_json(encode_json(dialect.render_response(response, request))))
        except (DialectError, UpstreamError) as exc:
            unsayable = dialect.name == "openai_completions" and response.tool_calls
            expect(
                unsayable,
                "an agent cannot read what a provider said",
                f"{dialect.name}: {where(exc)} {response}",
            )


class _Reply:
    """A provider's reply, as `Pieces` reads it."""

    headers: ClassVar[dict[str, str]] = {}
    media_type = ""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in reversed(pieces) if piece]
        self.patience = self

    def reset(self) -> None:
        """Nothing."""

    async def receive(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    async def drain(self) -> None:
        """Nothing."""


async def _relayed(dialect: Dialect, pieces: list[bytes], *, held: bool) -> None:
    reply: Any = _Reply(pieces)
    given = Pieces(reply, Relay(dialect.stream_parser(), hold_calls=held), Reader(dialect, KEY))
    fold = Fold()
    try:
        while (piece := await given.next()) is not None:
            for event in piece.events:
                fold.add(event)
    except UpstreamError as exc:
        _is_failure(exc)
        return
    expect(fold.ended, "a relay ends without the terminal event")


UPSTREAM = Kind("upstream", generate, open_check, batch=2000)
