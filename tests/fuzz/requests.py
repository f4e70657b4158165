"""HTTP/1.1 requests by a grammar: model calls and others, in all the ways in which they can be written."""

import gzip
import json
import re
from random import Random
from typing import Any

from .kind import as_text
from .left import MARK
from .stage import KEY

CALLS = [
    *("/v1/chat/completions", "/rollout/fuzz/v1/chat/completions", "/v1/messages", "/v1/messages?beta=true"),
    *("/v1/responses", "/v1/completions", "/v1beta/models/m:generateContent", "/rollout/other/v1/messages"),
    *(
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        "/chat/completions",
        "/rollout/fuzz/v1/responses?a=%62",
    ),
]
OTHERS = [
    *("/v1/models", "/health", "/", "/nope", "/rollout/fuzz/tools", "/rollout/fuzz/mcp",
     "/v1/messages/count_tokens"),
    *("/v1/chat/%63ompletions", "//v1/messages", "/v1/../v1/messages", "*", "http://a/v1/messages",
     "/%0a%1b[2J", "/v1/models/m"),
    *("/rollout/fuzz/state", "/rollout/fuzz/user", "/v1/embeddings", "/v1/responses/compact", "/rollout/"),
]  # fmt: skip
WORDS = ["", "", "", "", "refuse", "stream", "stream", "big", "late", "fail", "stream big"]
HEADERS = [
    *("Accept: */*", "User-Agent: fuzz", "X-Empty:", "X-Tab:\tvalue\t", "x-long: " + "v" * 3000,
     "Cookie: a=b; c=d"),
    *("Connection: keep-alive", "connection: Keep-Alive", "Connection: close", "Connection: TE",
     "TE: trailers"),
    *("Expect: 100-continue", "Accept-Encoding: gzip", "X-Fold: a\r\n b", "X-Bytes: \xe9\xff",
     "Content-Type: text/plain"),
    *("Upgrade: h2c", "Trailer: X-A", "X-Stainless-Retry-Count: 1", "Date: now", "Host: second",
     "Content-Encoding: gzip"),
]  # fmt: skip


def token(random: Random) -> str:
    """A word that no other request has."""
    return f"T{random.randrange(10**9):09d}"


def document(random: Random, path: str, text: str) -> dict[str, Any]:
    """What is asked at this path."""
    stream = random.random() < 0.5
    if "responses" in path:
        return {"model": "m", "input": text, "stream": stream}
    if "generate" in path.lower():
        return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    if path.endswith("/completions") and "chat" not in path:
        return {"model": "m", "prompt": text, "stream": stream}
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}], "stream": stream}


def call(random: Random, word: str = "") -> str:
    """A model call that nothing is wrong with."""
    path = random.choice(CALLS[:2])
    body = json.dumps(document(random, path, f"{token(random)} {word}"))
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}"


def sound(random: Random) -> str:
    """One request to any route, with whatever key, that breaks no rule of HTTP."""
    path, method = random.choice((*CALLS, *OTHERS[:7])), random.choice(METHODS)
    key = random.choice(("", "Authorization: Bearer wrong\r\n", f"Authorization: Bearer {KEY}\r\n"))
    body = json.dumps(document(random, path, token(random) + "x" * random.choice((0, 3000, 70_000, 400_000))))
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {len(body)}\r\n\r\n{body}"


METHODS = ("POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS")
_SOUND = re.compile(
    f"(?:{'|'.join(METHODS)})"
    r" (/[\w/?=.:%]*) HTTP/1\.1\r\nHost: a\r\n(?:Authorization: Bearer [\w-]+\r\n)?Content-Length: (\d+)\r\n\r\n",
    re.ASCII,
)


def is_sound(text: str) -> bool:
    """Whether these bytes are such a request."""
    head = _SOUND.match(text)
    return (
        head is not None
        and "fail" not in text
        and int(head[2]) > 0
        and len(text) == head.end() + int(head[2])
    )


def any_request(random: Random) -> str:
    """A request, of whatever kind."""
    path = random.choice(CALLS if random.random() < 0.75 else OTHERS)
    method = (
        "POST"
        if path in CALLS and random.random() < 0.95
        else random.choice(("GET", "POST", "HEAD", "PUT", "OPTIONS", "TRACE", "DELETE"))
    )
    text = f"{token(random)} {random.choice(WORDS)}" + ("x" * random.choice((0, 0, 0, 0, 3000, 70_000)))
    body = (
        json.dumps(document(random, path, text))
        if random.random() < 0.95
        else random.choice(("", "{", "nope", "[1]"))
    )
    extra = [random.choice(HEADERS) for _ in range(random.choice((0, 0, 1, 1, 2, 5)))]
    key = random.choice(KEYS) if random.random() < 0.25 else f"Authorization: Bearer {KEY}"
    if KEY not in key and random.random() < 0.3:  # a stranger, with much to say
        path += ("&" if "?" in path else "?") + MARK + "q" * random.choice((600, 20_000, 60_000))
        extra.append("x-more: " + MARK + "h" * 700)
    if any("gzip" in line for line in extra if line.startswith("Content-Encoding")):
        body = as_text(gzip.compress(body.encode(), mtime=0))
    framed, data = _framed(random, body)
    head = [f"Host: {random.choice(('a', 'localhost:80'))}", key, *extra, *framed]
    random.shuffle(head)
    version = "HTTP/1.1" if random.random() < 0.97 else "HTTP/1.0"
    return f"{method} {path} {version}\r\n" + "".join(f"{line}\r\n" for line in head if line) + "\r\n" + data


_PLAIN = re.compile(
    r"POST (/[\w/?=:%]+) HTTP/1\.1\r\n((?:Host: [a-z:0-9]+|Authorization: Bearer "
    + KEY
    + r"|Content-Length: \d+|Accept: \*/\*|Connection: keep-alive)\r\n){3,}\r\n",
    re.ASCII,
)


def plain_requests(text: str) -> int:
    """How many requests these bytes are, where they are model calls that nothing is wrong with; else 0."""
    count = 0
    while text:
        head = _PLAIN.match(text)
        if head is None or head[1] not in CALLS or "other" in head[1]:
            return 0
        lengths = re.findall(r"Content-Length: (\d+)", head[0])
        if len(lengths) != 1 or head[0].count("Host:") != 1 or head[0].count("Authorization:") != 1:
            return 0
        body, text = text[head.end() : head.end() + int(lengths[0])], text[head.end() + int(lengths[0]) :]
        if len(body) < int(lengths[0]) or not _is_document(head[1], body):
            return 0
        count += 1
    return count


def _is_document(path: str, body: str) -> bool:
    """Whether it is one that is made here, and not changed."""
    found = re.search(r"T\d{9}[ a-z]*", body)
    return found is not None and body in {
        json.dumps(
            {**document(Random(0), path, found[0]), **({"stream": stream} if "gen" not in path else {})}
        )
        for stream in (False, True)
    }


KEYS = [
    *("", f"x-api-key: {KEY}", f"x-goog-api-key: {KEY}", "Authorization: Bearer wrong",
     "Authorization: Basic YTpi"),
    *("authorization:bearer wrong", f"Authorization: {KEY}", "x-api-key: \xff", f"api-key:{KEY}"),
]  # fmt: skip


def _framed(random: Random, body: str) -> tuple[list[str], str]:
    """Headers of a body, and its bytes."""
    match random.choices(range(6), (60, 25, 3, 3, 3, 6))[0]:
        case 0:
            return [f"Content-Length: {len(body)}"], body
        case 1:
            return ["Transfer-Encoding: chunked"], _chunked(random, body)
        case 2:
            return [f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"], _chunked(random, body)
        case 3:
            return [
                f"content-length: {len(body)}",
                f"Content-Length: {len(body) + random.choice((0, 1))}",
            ], body
        case 4:
            return [f"Content-Length: {random.choice(('+', '0', ' ', '0x', '-'))}{len(body)}"], body
        case _:
            return [], ""


def _chunked(random: Random, body: str) -> str:
    pieces, at = [], 0
    while at < len(body):
        width = random.choice((1, 7, 100, 5000))
        piece = body[at : at + width]
        extension = random.choice(("", "", ";a", ';a="b"'))
        pieces.append(f"{len(piece):x}{extension}\r\n{piece}\r\n")
        at += width
        if len(pieces) > 20:
            pieces.append(f"{len(body) - at:x}\r\n{body[at:]}\r\n" if at < len(body) else "")
            break
    return "".join(pieces) + "0\r\n" + random.choice(("", "", "X-A: b\r\n")) + "\r\n"
