"""Changes: of bytes, and of JSON."""

import json
from itertools import pairwise
from random import Random
from typing import Any

WORDS = [
    *("\r\n", "\n", "\r", "\r\n\r\n", "\n\n", "\0", " ", "\t", ":", ";", ",", '"', "\xff", "\x80", "\x1b[2J",
     "%0a"),
    *("0\r\n\r\n", "5\r\nhello\r\n", "ffffffffffffffff", "-1", "0x10", "1e3", "HTTP/1.0", "HTTP/1.1",
     "HTTP/2.0"),
    *("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n"),
    *("Connection: close\r\n", "Connection: upgrade\r\n", "Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
    *("Expect: 100-continue\r\n", "Host: b\r\n", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     " \r\n x"),
    *("data:", "data: {}\n\n", "event: error\n", "data: [DONE]\n\n", ": comment\n", "\xef\xbb\xbf", "null",
     "{", "}", "[", "]"),
    *("\xed\xa0\x80", "\\ud800", "\\u0000", "NaN", "1e999", "99999999999999999999"),
]  # fmt: skip
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63, 2**64, 10**30, -(10**30), 1e308, float("nan"),
     float("inf")),
    *("", " ", "\0", "\ud800", "a\udc00b", "\x1b[31m", "\n", "é" * 3, "null", "data:image/png;base64,AAAA",
     "data:,"),
    *([], {}, [[]], [None], {"": None}, [{}], {"type": None}, {"type": "text"}, {"text": "x"},
     {"x_unknown": [1]}),
]  # fmt: skip


def mutated(random: Random, text: str, *, most: int = 4) -> str:
    """Bytes (latin-1) with a few changes in them."""
    for _ in range(random.randint(1, most)):
        at = random.randrange(len(text) + 1)
        width = random.choice((1, 1, 2, 4, 16, 64))
        match random.randrange(8):
            case 0:
                text = text[:at] + chr(random.randrange(256)) + text[at + 1 :]
            case 1:
                text = text[:at] + text[at + width :]
            case 2:
                text = text[: at + width] + text[at:]
            case 3 | 4:
                text = text[:at] + random.choice(WORDS) + text[at:]
            case 5:
                word = random.choice(WORDS)
                text = text[:at] + word + text[at + len(word) :]
            case 6:
                text = text[:at] if random.random() < 0.3 else text
            case 7 if at < len(text):
                text = text[:at] + chr(ord(text[at]) ^ (1 << random.randrange(8))) + text[at + 1 :]
    return text


def cut_up(random: Random, text: str) -> list[str]:
    """The text in pieces: a few large ones, or single bytes here and there."""
    if len(text) < 300 and random.random() < 0.03:
        return list(text)
    places = {random.randrange(len(text) + 1) for _ in range(random.choice((0, 1, 2, 4, 8)))}
    for found in ("\r\n\r\n", "\n\n"):
        if (at := text.find(found)) >= 0 and random.random() < 0.5:
            places.add(at + random.randrange(len(found) + 1))
    edges = sorted({0, len(text), *places})
    return [text[start:end] for start, end in pairwise(edges)]


def mutated_json(random: Random, value: Any, *, most: int = 4) -> Any:
    """A JSON value with a few changes in it, each at any place. It may be more than JSON: NaN, lone surrogates."""
    if not isinstance(value, dict | list) or not value:
        return random.choice(STRANGE)
    for _ in range(random.randint(1, most)):
        value = _changed_inside(random, value)
    return value


def _changed_inside(random: Random, value: Any) -> Any:
    """A copy, changed at one place; what is not on the way to it is shared."""
    top = holder = value.copy()
    while holder:
        key = random.choice([*holder]) if isinstance(holder, dict) else random.randrange(len(holder))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.25:
            _change(random, holder, key)
            break
        holder[key] = holder = inner.copy()
    return top


def _change(random: Random, holder: Any, key: Any) -> None:
    old = holder[key]
    match random.randrange(10):
        case 0 | 1:
            holder[key] = random.choice(STRANGE)
        case 2:
            del holder[key]
        case 3 if isinstance(holder, list):
            holder.insert(key, old)
        case 3:
            holder[key + random.choice(("", "_", "s"))] = old
        case 4 if isinstance(holder, dict):
            others = [*holder, "type", "role", "content", "id", "name", "x_unknown"]
            holder[random.choice(others)] = holder.pop(key)
        case 5:
            holder[key] = [old]
        case 6:
            holder[key] = {random.choice(("type", "text", "content", "0")): old}
        case 7 if isinstance(old, str):
            holder[key] = random.choice(
                (old[:-1], old + old, old + "\ud83d", old.upper(), old * 50, f" {old}")
            )
        case 7 | 8 if isinstance(old, int | float):
            holder[key] = random.choice((-old, old + 1, str(old), float(old), 2**65))
        case 8 if isinstance(old, dict | list):
            deep: Any = old
            for _ in range(random.choice((3, 30, 200))):
                deep = [deep] if random.random() < 0.5 else {"content": deep}
            holder[key] = deep
        case _ if isinstance(holder, list):
            other = random.randrange(len(holder))
            holder[key], holder[other] = holder[other], holder[key]
        case _:
            holder[key] = str(old)[:20]


def written(random: Random, value: Any) -> str:
    """A JSON value as the bytes (latin-1) that some client might send: escaped or not, spaced or not."""
    text = json.dumps(
        value, ensure_ascii=random.random() < 0.5, indent=random.choice((None, None, None, 1)), allow_nan=True
    )
    return text.encode("utf-8", "surrogatepass").decode("latin-1")
