"""The bytes that an endpoint answers, read as HTTP/1.1."""

import re
from dataclasses import dataclass

from .kind import expect

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r\n)*)\r\n")
_CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")


@dataclass
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


def answers(data: bytes, *, heads: bool = False) -> list[Answer]:
    """Return all responses but informational ones, or raise Violation. `heads`: some may be to HEAD."""
    found: list[Answer] = []
    while data:
        head = _HEAD.match(data)
        if head is None:
            expect(b"\r\n\r\n" not in data[:100_000], "an answer is no HTTP", data[:300])
            found.append(Answer(0, {}, data, whole=False))
            break
        answer = Answer(int(head[1]), _headers(head[2]), b"", whole=True)
        data = data[head.end() :]
        if answer.status < 200 and answer.status != 101:
            continue
        if answer.status == 101:
            answer.body, data = data, b""
        elif answer.status not in (204, 304) and not (heads and (not data or data.startswith(b"HTTP/1.1 "))):
            data = _take_body(answer, data)
        found.append(answer)
    return found


def _headers(lines: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        expect(name.lower() not in headers or name.lower() == "set-cookie", "a header stands twice", line)
        headers[name.lower()] = value.strip()
    return headers


def _take_body(answer: Answer, data: bytes) -> bytes:
    """Its body; what is behind it."""
    if answer.headers.get("transfer-encoding") == "chunked":
        expect("content-length" not in answer.headers, "an answer is framed twice", answer.headers)
        return _take_chunks(answer, data)
    if (length := answer.headers.get("content-length")) is not None:
        answer.body, answer.whole = data[: int(length)], len(data) >= int(length)
        return data[int(length) :]
    answer.body, answer.whole = data, answer.headers.get("connection") == "close"
    return b""


def _take_chunks(answer: Answer, data: bytes) -> bytes:
    while (size := _CHUNK.match(data)) is not None:
        start, count = size.end(), int(size[1], 16)
        if len(data) < start + count + 2:
            break
        expect(
            data[start + count : start + count + 2] == b"\r\n", "a chunk is longer than it says", data[:200]
        )
        answer.body += data[start : start + count]
        data = data[start + count + 2 :]
        if not count:
            return data
    answer.whole = False
    return b""
