"""What a provider sends: the same result however it is split, and no error but `UpstreamError`.

An answer is written by a dialect's own renderer, or made of the SDKs' types; then it is changed, put into chunks, and
read: as chunks, as server-sent events, as frames of a relay, as a dialect's stream, and as a whole document.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, ClassVar, TypeAlias

import msgspec

from triocept._canonical.fold import Fold, events_of
from triocept._canonical.given import given_response
from triocept._canonical.request import Request
from triocept._sse import SSEDecoder
from triocept._upstream.chunked import ChunkedDecoder
from triocept._upstream.failures import Reader
from triocept._upstream.relay import Frames, Pieces, Relay
from triocept.dialects import DIALECTS, Dialect, decode_json, encode_json
from triocept.errors import DialectError, UpstreamError

from .answers import answer_of, any_answer
from .kind import Check, Input, Kind, Unfit, Violation, as_bytes, as_text, expect
from .left import same_process, watched_log
from .mutate import cut_up, mutated, mutated_json, written
from .where import where

__all__ = ["UPSTREAM"]

Result: TypeAlias = tuple[Any, str]
"""What was read, and the error behind it; no text where there is none."""
KEY = "sk-provider-key-0123456789"
SLOW = 0.15
"""Seconds of CPU time, from which on it is asked whether twice as much takes four times as long."""


NAMES = sorted(DIALECTS)


def generate(random: Random) -> Input:
    name = random.choice(NAMES)
    dialect = DIALECTS[name]
    request = Request(dialect=name, model="m", messages=(), stream=True, include_usage=random.random() < 0.5)
    answer = given_response(answer_of(any_answer(random)))
    value: dict[str, Any] = {
        "dialect": name,
        "status": random.choice((200, 200, 200, 400, 429, 500, 302, 204)),
    }
    if random.random() < 0.65:
        body = _stream(random, dialect, request, answer)
    else:
        body = _document(random, dialect, msgspec.structs.replace(request, stream=False), answer)
    if random.random() < 0.4:
        body = mutated(random, body)
    if random.random() < 0.0003:
        body = _long(random, body)
    pieces = cut_up(random, body)
    coded = (
        "".join(_chunk(random, piece) for piece in pieces if piece)
        + "0\r\n"
        + random.choice(("", "", "a: b\r\n"))
        + "\r\n"
    )
    value["pieces"] = pieces
    value["chunks"] = cut_up(random, mutated(random, coded) if random.random() < 0.5 else coded)
    value["held"] = random.random() < 0.5
    value["agents"] = random.sample(NAMES, 2)
    value["bytes"] = random.random() < 0.03
    return value


def _stream(random: Random, dialect: Dialect, request: Request, answer: Any) -> str:
    """A stream, some of its events left out, doubled or changed."""
    renderer = dialect.stream_renderer(request)
    try:
        frames = [as_text(data) for event in events_of(answer) if (data := renderer.render(event))]
    except DialectError:
        frames = []
    whole = _same("".join(frames))
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
                frames.insert(
                    at,
                    random.choice(
                        (": comment\n\n", "event: ping\ndata: {}\n\n", "data: [DONE]\n\n", "\n", "data:\n\n")
                    ),
                )
            case _:
                frames[at] = _changed(random, frames[at])
    end = random.choice(("\n", "\n", "\n", "\r\n", "\r"))
    return "".join(frames).replace("\n", end)


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


def _document(random: Random, dialect: Dialect, request: Request, answer: Any) -> str:
    """A whole answer, or an error, changed."""
    try:
        document = decode_json(
            as_bytes(_same(as_text(encode_json(dialect.render_response(answer, request)))))
        )
    except DialectError:
        document = {}
    if random.random() < 0.3:
        kind = random.choice(("context_length_exceeded", "rate_limit_error", 1, None))
        error = {
            "message": random.choice(("no", "\x1b[31m", KEY, "")),
            "type": kind,
            "code": kind,
        }
        document = random.choice(
            ({"error": error}, {"type": "error", "error": error}, [{"error": error}], {"detail": error})
        )
    if random.random() < 0.8:
        document = mutated_json(random, document)
    return random.choice(("", "", " ", "\xef\xbb\xbf")) + written(random, document)


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
                dialect = DIALECTS[value["dialect"]]
                pieces = [as_bytes(piece) for piece in value["pieces"]]
                chunks = [as_bytes(piece) for piece in value["chunks"]]
                status, held = int(value["status"]), bool(value.get("held"))
                single, agents = (
                    bool(value.get("bytes")),
                    [DIALECTS[name] for name in value.get("agents", ())],
                )
            except (KeyError, TypeError, AttributeError, UnicodeError, ValueError) as exc:
                raise Unfit from exc
            try:
                for read in readers(dialect, held):
                    _alike(read, pieces, single=single)
                _alike(_chunked, chunks, single=single)
                _whole(dialect, status, b"".join(pieces), agents)
                await _relayed(dialect, pieces, held)
            except Violation:
                raise
            except Exception as exc:
                raise Violation("an exception", where(exc)) from exc
            log.take()

        yield check


Read: TypeAlias = Callable[[list[bytes]], Result]


def readers(dialect: Dialect, held: bool) -> Iterator[Read]:
    """What reads a provider's bytes."""
    yield _events
    yield _framed
    yield lambda pieces: _parsed(dialect, pieces)
    yield lambda pieces: _relay(dialect, pieces, held)


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
    decoder, body = ChunkedDecoder(), b""
    try:
        for piece in pieces:
            body += decoder.feed(piece)
            if decoder.ended:
                break
    except ValueError:
        return b"", "no chunks"
    return (body, decoder.ended), ""


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

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in reversed(pieces) if piece]
        self.patience = self

    def heard(self) -> None:
        """Nothing."""

    async def receive(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""

    async def drain(self) -> None:
        """Nothing."""


async def _relayed(dialect: Dialect, pieces: list[bytes], held: bool) -> None:
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
