"""HTTP/2: frames that are right, then some that are wrong. Calls that nothing is wrong with are answered all the same,
unless the connection ends with GOAWAY; and whatever the client does, nothing of it is left.
"""

from __future__ import annotations

import json
import re
import struct
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any

import trio

from .frames import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Got,
    block,
    frame,
    kinds,
    read,
)
from .kind import Check, Input, Kind, Unfit, as_bytes, as_text, expect
from .left import MARK
from .mutate import cut_up, mutated
from .requests import token
from .stage import KEY, Stage, open_one

__all__ = ["HTTP2"]

WORDS = [
    "",
    "",
    "stream",
    "stream",
    "big",
    "big stream",
    "late",
    "fail",
    "fail stream",
    "refuse",
    "wait",
    "stream hold",
]
PATHS = ["/v1/chat/completions", "/rollout/fuzz/v1/chat/completions"]
ENDINGS = ("close", "reset", "half", "wait")
PARTS = 3


def generate(random: Random) -> Input:
    calls = [f"{token(random)} {random.choice(WORDS)}" for _ in range(random.choice((1, 1, 2, 3, 5)))]
    left = [[number, 0] for number in range(len(calls))]
    frames: list[Any] = []
    begun = 0
    while left:
        one = random.choice([each for each in left if each[1] or each[0] == begun])
        frames.append(["call", *one])
        begun += not one[1]
        one[1] += 1
        left = [each for each in left if each[1] < PARTS]
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        frames.insert(random.randrange(len(frames) + 1), _strange(random, len(calls)))
    if random.random() < 0.5:
        _change(random, calls, frames)
    settings = [
        [
            random.choice((3, 4, 4, 4, 5, 6, 1, 2, 99)),
            random.choice((0, 1, 100, 16384, 65535, 2**31 - 1, 2**31)),
        ]
    ]
    return {
        "calls": calls,
        "frames": frames,
        "settings": settings if random.random() < 0.5 else [],
        "cuts": random.randrange(2**32),
        "opens": random.random() < 0.6,
        "end": random.choice(ENDINGS),
    }


def _strange(random: Random, calls: int) -> Any:
    """A frame that no client has to send."""
    stream = random.choice((0, 0, 1, 1, 2, 3, 2 * calls + 1, 2 * calls - 1, 99, 2**31 - 1))
    number = random.choice((0, 1, 8, 65535, 2**31 - 1))
    head = [
        (":method", "POST"),
        (":path", random.choice((*PATHS, "/" + MARK + "q" * 900))),
        (":scheme", "http"),
        (":authority", "a"),
    ]
    match random.randrange(12):
        case 0 | 1:
            return [RST_STREAM, 0, random.choice((1, 3, stream)), _number(number % 20)]
        case 2:
            return [WINDOW_UPDATE, 0, stream, _number(number)]
        case 3:
            pairs = [(random.randrange(8), random.choice((0, 1, 65535, 2**24, 2**31)))] * random.choice(
                (0, 1, 3)
            )
            return [SETTINGS, random.choice((0, 0, 0, 1)), random.choice((0, 0, 0, 1)), _settings(pairs)]
        case 4:
            return [
                PING,
                random.randrange(2),
                random.choice((0, 0, 0, 1)),
                "12345678"[: random.choice((8, 8, 8, 7))],
            ]
        case 5:
            return [GOAWAY, 0, 0, _number(number) + _number(0) + "bye"]
        case 6:
            return [PRIORITY, 0, stream, _number(stream if random.random() < 0.3 else 0) + "\x10"]
        case 7:
            return [DATA, random.choice((0, 1, 8)), stream, random.choice(("", "x", "\x05abc", "{}" * 600))]
        case 8:  # trailers, or another request
            extra = random.choice(
                (
                    [("x-a", "b")],
                    [("authorization", f"Bearer {KEY}")],
                    [(":status", "200")],
                    [("X-Up", "b")],
                    head,
                )
            )
            return [HEADERS, random.choice((4, 5, 5, 0, 1)), stream, block(extra)]
        case 9:
            wrong = random.choice(
                (
                    [(":method", "CONNECT")],
                    head[:2],
                    [*head, head[0]],
                    [*head, ("connection", "close")],
                    [*head, ("a", "\xff\n")],
                )
            )
            return [HEADERS, 5, random.choice((2 * calls + 1, 2 * calls + 3, stream)), block(wrong)]
        case 10:
            return [CONTINUATION, random.choice((0, 4)), stream, block([("x-b", "c")])]
        case _:
            return [
                random.choice((5, 10, 11, 190)),
                random.randrange(256),
                stream,
                "x" * random.choice((0, 8, 300)),
            ]


def _change(random: Random, calls: list[str], frames: list[Any]) -> None:
    """One of the frames becomes another."""
    at = random.randrange(len(frames))
    kind, flags, stream, payload = _of_call(calls, *frames[at][1:]) if frames[at][0] == "call" else frames[at]
    match random.randrange(7):
        case 0:
            del frames[at]
        case 1:
            frames.insert(at, [kind, flags, stream, payload])
        case 2:
            frames[at] = [kind, flags ^ (1 << random.randrange(8)), stream, payload]
        case 3:
            frames[at] = [random.randrange(11), flags, stream, payload]
        case 4:
            frames[at] = [kind, flags, random.choice((0, 1, 2, 3, 5, 7, 101)), payload]
        case 5:
            frames[at] = [kind, flags, stream, mutated(random, payload)]
        case _:
            frames[at] = ["bytes", mutated(random, frame(kind, flags, stream, payload))]


def _of_call(calls: list[str], number: int, part: int) -> list[Any]:
    """The frame that is this part of a call."""
    text, stream = calls[number], 2 * number + 1
    body = as_text(
        json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": text}], "stream": "stream" in text}
        ).encode()
    )
    if part == 0:
        path = PATHS[number % 2]
        head = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "a")]
        head += [("authorization", f"Bearer {KEY}"), ("content-length", str(len(body)))]
        return [HEADERS, 4, stream, block(head)]
    return [DATA, 0, stream, body[:20]] if part == 1 else [DATA, 1, stream, body[20:]]


def _number(value: int) -> str:
    return as_text(struct.pack(">I", value & 0xFFFFFFFF))


def _settings(pairs: list[Any]) -> str:
    return "".join(as_text(struct.pack(">HI", name & 0xFFFF, value & 0xFFFFFFFF)) for name, value in pairs)


def open_check() -> AbstractAsyncContextManager[Check]:
    return open_one({"http2": True}, _check)


async def _check(value: Input, stage: Stage, honest: bool) -> None:
    try:
        calls, frames, end = [str(each) for each in value["calls"]], value["frames"], value["end"]
        text = PREFACE + frame(SETTINGS, 0, 0, _settings(value["settings"]))
        text += "".join(_bytes(calls, each) for each in frames)
        cuts, opens = Random(value["cuts"]), bool(value.get("opens"))
        plain = _plain(calls, frames)
        text.encode("latin-1")
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
        if opens:
            await client.send(
                as_bytes(
                    frame(SETTINGS, 0, 0, _settings([(4, 2**20)]))
                    + frame(WINDOW_UPDATE, 0, 0, _number(2**22))
                )
            )
            stage.go.set()
            await client.settle()
            await trio.sleep(20)
            await client.settle()
        if end == "half":
            client.end()
            await client.settle()
        if end == "wait":
            await trio.sleep(700)  # twice the time that a reader has
            await client.settle()
        told = value["settings"] or any(
            item[0] in (SETTINGS, "bytes") for item in frames
        )  # it may allow larger ones
        got = _read(client.got, 2**24 if told else 16384)
        if got is not None:
            left = end == "half" or GOAWAY in kinds(text)  # then nothing can be sent any more
            _judge(got, client.fate, left=left)
            _has_its_own_words(got, calls, frames)
            if opens and got.goaway is None and client.fate == "open":
                for number in plain:
                    _answered(calls[number], 2 * number + 1, got)
        client.close(reset=end == "reset")
    await stage.look()


def _bytes(calls: list[str], item: Any) -> str:
    if item[0] == "bytes":
        return str(item[1])
    kind, flags, stream, payload = _of_call(calls, *item[1:]) if item[0] == "call" else item
    return frame(kind, flags, stream, payload)


def _plain(calls: list[str], frames: list[Any]) -> set[int]:
    """The numbers of the calls that nothing is wrong with."""
    if any(item[0] == "bytes" for item in frames):
        return set()
    named = {item[2] for item in frames if item[0] != "call"}
    parts: dict[int, list[int]] = {}
    for item in frames:
        if item[0] == "call":
            parts.setdefault(item[1], []).append(item[2])
    return {
        number
        for number, seen in parts.items()
        if seen == [0, 1, 2] and 2 * number + 1 not in named and "T" in calls[number][:1]
    }


def _read(data: bytes, largest: int) -> Got | None:
    """What was answered; None: it was not taken for HTTP/2."""
    return None if data.startswith(b"HTTP/1.1 ") else read(data, largest)


def _judge(got: Got, fate: str, *, left: bool) -> None:
    if fate != "open" and not left:
        expect(got.goaway is not None, "HTTP/2 ends without GOAWAY", f"{fate} {got}")


def _has_its_own_words(got: Got, calls: list[str], frames: list[Any]) -> None:
    """An answer has no words but those that were sent on its stream: a changed frame may bring another call's."""
    if any(item[0] == "bytes" for item in frames):
        return
    sent: dict[int, str] = {}
    for item in frames:
        _, _, stream, payload = _of_call(calls, *item[1:]) if item[0] == "call" else item
        sent[stream] = sent.get(stream, "") + payload
    for stream, body in got.bodies.items():
        words = set(re.findall(r"T\d{9}", as_text(body)))
        others = {word for word in words if word not in sent.get(stream, "")}
        expect(not others, "a stream has the words of another", f"{stream}: {others} in {body[:300]!r}")


def _answered(text: str, stream: int, got: Got) -> None:
    said = (
        f"{text!r}: head {got.heads.get(stream)}, ended {stream in got.ended}, reset {got.reset.get(stream)}"
    )
    if "fail" in text and "stream" in text:
        expect(stream in got.reset, "an answer that fails looks whole", said)
        return
    expect(stream in got.ended and got.reset.get(stream, 0) == 0, "a plain call is not answered", said)
    status = "429" if "refuse" in text else "500" if "fail" in text else "200"
    expect(got.heads[stream][":status"] == status, "a plain call has another status", said)
    expect(
        "fail" in text or text[:10].encode() in got.bodies[stream], "a plain call has another answer", said
    )
    if "big" in text:
        expect(len(got.bodies[stream]) > 200_000, "a plain call has half an answer", said)


HTTP2 = Kind("http2", generate, open_check, batch=200)
