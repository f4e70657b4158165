"""The Responses websocket: frames that are right, fragmented, masked, cut, and wrong.

A model of RFC 6455 says what the frames amount to: messages, a close, or a fault with its code.
"""

import json
import re
import struct
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio

from .kind import Check, Input, Kind, Unfit, as_bytes, as_text, expect
from .mutate import cut_up, mutated, mutated_json, written
from .requests import token
from .stage import KEY, Stage, open_one

MAX_BODY = 64 * 1024
ENDINGS = ("close", "reset", "half", "wait")
WORDS = ["", "", "stream", "late", "refuse", "fail stream", "big", "stream hold"]
CODES = (1000, 1001, 1003, 1005, 1006, 1007, 1011, 1015, 999, 3000, 4999, 5000, 0)
CONTINUE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HANDSHAKE = (
    "GET /v1/responses HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {KEY}\r\n\r\n"
)


def generate(random: Random) -> Input:
    frames: list[Any] = []
    for lane in range(random.choice((0, 1, 1, 2, 4))):
        text = json.dumps(_create(f"{token(random)} {random.choice(WORDS)}", f"l{lane}"))
        frames += _fragments(random, text)
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.randrange(len(frames) + 1)
        frames[at:at] = _strange(random)
    if random.random() < 0.25 and frames:
        at = random.randrange(len(frames))
        frames[at] = ["bytes", mutated(random, _written(frames[at]))]
    handshake = mutated(random, HANDSHAKE) if random.random() < 0.1 else HANDSHAKE
    return {
        "handshake": handshake,
        "frames": frames,
        "cuts": random.randrange(2**32),
        "end": random.choice(ENDINGS),
    }


def _create(text: str, lane: str | None) -> dict[str, Any]:
    return {
        "type": "response.create",
        "model": "m",
        "input": text,
        **({"stream_id": lane} if lane is not None else {}),
    }


def _fragments(random: Random, text: str) -> list[Any]:
    """A text message in one frame, or in several, with a ping between some."""
    pieces = [piece for piece in cut_up(random, text) if piece] if random.random() < 0.5 else [text]
    frames: list[Any] = []
    for number, piece in enumerate(pieces[:30]):
        piece = piece if number < 29 else "".join(pieces[29:])
        last = number == min(len(pieces), 30) - 1
        frames.append([0x80 * last | (TEXT if number == 0 else CONTINUE), True, piece])
        if not last and random.random() < 0.2:
            frames.append([0x80 | PING, True, "mid"])
    return frames


def _strange(random: Random) -> list[Any]:
    """Frames that no client has to send."""
    match random.randrange(12):
        case 0:
            return [
                [0x80 | PING, True, "x" * random.choice((0, 5, 125, 126))]
                for _ in range(random.choice((1, 3, 50)))
            ]
        case 1:
            code = random.choice(CODES)
            reason = random.choice(("", "", "bye", "\xff", "x" * 123))
            return [
                [0x80 | CLOSE, True, random.choice((as_text(struct.pack(">H", code)) + reason, "", "\x03"))]
            ]
        case 2:
            return [
                [
                    0x80 | random.choice((TEXT, BINARY)),
                    True,
                    random.choice(("\xff\xfe", "\xc3", "{}", "\xed\xa0\x80", "[1]", "")),
                ]
            ]
        case 3:
            return [[random.choice((0x80, 0x00, 0x01)), True, random.choice(("", "x"))]]
        case 4:
            return [[random.choice((0xC1, 0xA1, 0x91, 0x83, 0x8B, 0x8F, 0x09, 0x08)), True, "{}"]]
        case 5:
            return [[0x81, False, "{}"]]
        case 6:
            size = random.choice((MAX_BODY - 100, MAX_BODY + 10, 100_000, 300_000))
            return [[0x81, True, json.dumps(_create("x" * size, None))]]
        case 7:
            return [
                [0x01, True, '{"type":'],
                *([[0x00, True, ""]] * random.choice((1, 300))),
                [0x80, True, '"response.create"}'],
            ]
        case 8:
            return [
                [
                    0x81,
                    True,
                    random.choice(
                        (
                            "null",
                            "1",
                            '"x"',
                            '{"type":null}',
                            '{"type":"response.cancel"}',
                            "{",
                            "[" * 3000,
                            "NaN",
                        )
                    ),
                ]
            ]
        case 9:
            return [[0x81, True, json.dumps({"type": "response.steer", "a": "\x1b[31m"})]]
        case _:
            changed = mutated_json(
                random,
                {
                    **_create("hi", random.choice((None, "m", "x" * 300))),
                    "tools": [{"type": "function", "name": "ls"}],
                },
            )
            return [[0x81, True, written(random, changed)]]


def _written(item: Any) -> str:
    if item[0] == "bytes":
        return str(item[1])
    first, masked, payload = item
    size = len(payload)
    head = bytes([first & 0xFF])
    flag = 0x80 if masked else 0
    if size < 126:
        head += bytes([flag | size])
    elif size < 65536:
        head += bytes([flag | 126]) + struct.pack(">H", size)
    else:
        head += bytes([flag | 127]) + struct.pack(">Q", size)
    if not masked:
        return as_text(head) + payload
    mask = bytes([7, size & 0xFF, 0x5A, first & 0xFF])
    data = as_bytes(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return as_text(
        head + mask + (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
    )


@dataclass
class Model:
    """What frames amount to."""

    messages: list[str] = field(default_factory=list)
    fault: int | None = None
    """The code with which what follows is refused."""
    closed: bool = False
    known: bool = True
    """Whether all of it is said here."""


def amount(frames: list[Any]) -> Model:
    """What RFC 6455, sections 5 to 8, says of them."""
    model, text, kind = Model(), b"", None
    for item in frames:
        if model.fault or model.closed:
            break
        if item[0] == "bytes":
            model.known = False
            break
        first, masked, payload = item
        code, final, data = first & 0x0F, bool(first & 0x80), as_bytes(payload)
        if first & 0x70 or code in (3, 4, 5, 6, 7) or code > PONG or not masked:
            model.fault = 1002
        elif code >= CLOSE:
            _control(model, code, final, data)
        elif (code == CONTINUE) != (kind is not None):
            model.fault = 1002
        else:
            kind = kind if code == CONTINUE else code
            text += data
            if len(text) > MAX_BODY:
                model.known = False
            if final:
                _message(model, kind, text)
                text, kind = b"", None
    return model


def _control(model: Model, code: int, final: bool, data: bytes) -> None:
    if not final or len(data) > 125:
        model.fault = 1002
    elif code == CLOSE:
        number = int.from_bytes(data[:2], "big")
        allowed = number in {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
        if len(data) == 1 or (data and not allowed):
            model.fault = 1002
        elif not _is_text(data[2:]):
            model.fault = 1007
        model.closed = model.fault is None


def _message(model: Model, kind: int | None, data: bytes) -> None:
    if kind == TEXT and not _is_text(data):
        model.fault = 1007
    elif kind == TEXT:
        model.messages.append(data.decode())


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def open_check() -> AbstractAsyncContextManager[Check]:
    return open_one({"max_body": MAX_BODY}, _check)


async def _check(value: Input, stage: Stage, honest: bool) -> None:
    try:
        handshake, frames, end = str(value["handshake"]), value["frames"], value["end"]
        text = handshake + "".join(map(_written, frames))
        model, cuts = amount(frames), Random(value["cuts"])
        as_bytes(text)
    except (KeyError, TypeError, IndexError, ValueError, struct.error) as exc:
        raise Unfit from exc
    if end not in ENDINGS:
        raise Unfit
    whole, at = as_bytes(stage.with_key(text)), 0
    with stage.connect() as client:
        for piece in cut_up(cuts, text):
            await client.send(whole[at : at + len(piece)])
            at += len(piece)
            if honest and at == len(piece):
                await stage.ask_honestly()
        stage.go.set()
        await client.settle()
        await trio.sleep(5)
        await client.settle()
        clean = handshake == HANDSHAKE and model.known and model.fault is None and not model.closed
        if clean and not _in_message(frames):
            await client.send(
                as_bytes(_written([0x81, True, json.dumps(_create("T000000000 last", "last"))]))
            )
            model.messages.append(json.dumps(_create("T000000000 last", "last")))
        if end == "half":
            client.end()
        if end == "wait":
            await trio.sleep(700)
        await client.settle()
        head, _, rest = client.got.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101 ") or handshake == HANDSHAKE:
            expect(head.startswith(b"HTTP/1.1 101 "), "a websocket is refused", head)
            _judge(rest, model, client.fate, clean=clean, exact=handshake == HANDSHAKE)
        client.close(reset=end == "reset")
    await stage.look()


def _in_message(frames: list[Any]) -> bool:
    """Whether the last message has no end."""
    data = [item for item in frames if item[0] & 0x0F < CLOSE]
    return bool(data) and not data[-1][0] & 0x80


def _judge(data: bytes, model: Model, fate: str, *, clean: bool, exact: bool) -> None:
    events, code = _read(data)
    if not exact or not model.known:
        return
    if model.fault is not None:
        expect(code == model.fault, "a fault has another close code", f"{code} is not {model.fault}")
        expect(fate != "open", "a fault does not end the websocket")
    if model.closed:
        expect(code is not None, "a close is not answered")
    if clean:
        _are_answered(events, model)


def _are_answered(events: list[Any], model: Model) -> None:
    """Calls that nothing is wrong with are answered, each in its lane."""
    for message in model.messages:
        try:
            asked = json.loads(message)
        except (ValueError, RecursionError):  # Python 3.11 reads no thousand lists in one another
            continue
        if not isinstance(asked, dict) or asked != _create(str(asked.get("input")), asked.get("stream_id")):
            continue
        lane, text = asked.get("stream_id"), asked["input"]
        if not (isinstance(lane, str) and text[:1] == "T" and text[1:10].isdigit()):
            continue
        mine = [event for event in events if event.get("stream_id") == lane]
        said = json.dumps(mine)[-600:]
        ends = [
            event["type"]
            for event in mine
            if event["type"] in ("response.completed", "error", "response.failed")
        ]
        wanted = "error" if "refuse" in text or "fail" in text else "response.completed"
        expect(ends == [wanted], "a call of a websocket is not answered", f"{text!r}: {ends} {said}")
        expect(wanted == "error" or text[:10] in json.dumps(mine), "a call has another answer", said)
        others = set(re.findall(r"T\d{9}", json.dumps(mine))) - {text[:10]}
        expect(not others, "a call has the words of another", said)


def _read(data: bytes) -> tuple[list[Any], int | None]:
    """The events that an endpoint has sent, and the code of its close."""
    events, code, at = [], None, 0
    while len(data) - at >= 2:
        first, size, start = data[at], data[at + 1], at + 2
        expect(size < 0x80, "a server masks", size)
        if size == 126:
            size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        elif size == 127:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        payload, at = data[start : start + size], start + size
        if len(payload) < size:
            break
        expect(code is None, "a frame behind the close", (first, payload))
        expect(first in (0x81, 0x88, 0x8A, 0x89), "a frame that no server sends here", first)
        if first == 0x81:
            events.append(json.loads(payload))
        elif first == 0x88:
            code = int.from_bytes(payload[:2], "big")
    return events, code


WEBSOCKET = Kind("websocket", generate, open_check, batch=200)
